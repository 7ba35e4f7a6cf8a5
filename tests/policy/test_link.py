"""Code that was laid out runs wherever it is put, and what cannot be laid out is refused."""

from __future__ import annotations

import ctypes
import math
import platform
from typing import Any

import llvmlite.binding as llvm
import pytest

from offtake.policy.link import UnknownCodeError, linked
from offtake.policy.machine import _put

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="for this alone")

SWITCH = "\n".join(f"    i32 {case}, label %case{case}" for case in range(8))
CASES = "\n".join(f"case{case}:\n  ret double {1.0 / (case + 3)!r}" for case in range(8))
LOGS = """
declare double @log(double)
declare double @cbrt(double)
define double @mean_log(double %x) {
  %a = call double @log(double %x)
  %b = call double @cbrt(double %x)
  %c = fadd double %a, %b
  %d = fmul double %c, 0.3
  ret double %d
}
define double @again(double %x) {
  %a = call double @mean_log(double %x)
  %b = call double @log(double %a)
  ret double %b
}
"""


def object_of(assembly: str) -> bytes:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(llvm.parse_assembly(assembly)))


def functions(assembly: str, kind: type) -> dict[str, Any]:
    found = _put(linked(object_of(assembly)))
    assert found is not None
    addresses, memory = found
    return {"memory": memory, **{name: ctypes.CFUNCTYPE(ctypes.c_double, kind)(at) for name, at in addresses.items()}}


def test_functions_call_each_other_and_those_outside() -> None:
    made = functions(LOGS, ctypes.c_double)
    expected = (math.log(7.5) + math.cbrt(7.5)) * 0.3
    assert made["mean_log"](7.5) == expected
    assert made["again"](7.5) == math.log(expected)


def test_a_table_of_jumps_leads_where_it_should() -> None:
    begin, end = "define double @chosen(i32 %n) {\n  switch i32 %n, label %else", "else:\n  ret double 0.0\n}"
    made = functions(f"{begin} [\n{SWITCH}\n  ]\n{CASES}\n{end}", ctypes.c_int32)
    assert [made["chosen"](n) for n in range(10)] == [*(1.0 / (n + 3) for n in range(8)), 0.0, 0.0]


@pytest.mark.parametrize(
    "assembly",
    [
        "@kept = global i64 7\ndefine i64 @f() {\n  %a = load i64, i64* @kept\n  ret i64 %a\n}",
        "@kept = external global i64\ndefine i64 @f() {\n  %a = load i64, i64* @kept\n  ret i64 %a\n}",
    ],
)
def test_code_that_keeps_or_wants_data_is_refused(assembly: str) -> None:
    with pytest.raises(UnknownCodeError):
        linked(object_of(assembly))


@pytest.mark.parametrize("file", [b"", b"MZ", b"\x7fELF\x01\x01" + bytes(80)])
def test_a_file_of_another_kind_is_refused(file: bytes) -> None:
    with pytest.raises(UnknownCodeError):
        linked(file)
