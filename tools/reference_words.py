"""Say of each verb what no signature can: what it leaves behind, when it refuses, and what its answer's keys mean."""

# What a verb leaves behind and when it refuses an answer: no signature can say that.
WRITES = {
    "init": "the folder, which must be new or empty",
    "check": "nothing",
    "plan": "`plan/` in the run folder",
    "compare": "`compare.json` in the run folder of the second plan",
    "appraise": "`appraise/OFFER/` in the run folder",
    "rehearse": "`rehearse/` in the run folder, with `--name` a folder of that name in it",
    "route": "`decisions`, `journal`, `ledger.db` and `state` beside the router's file, `route-demo/` with `--demo`, "
    "`route.toml` and `keys.toml` with `--init`, one more key in `keys.toml` with `--new-key`",
    "report": "`report.html` in the run folder, or the page named by `--out`",
    "demo": "all of a run folder",
    "ledger": "what journals still hold into the ledger, and the files named by `--export` and `--performance`",
    "performance list": "nothing",
    "performance build": "NAME.npz and NAME.json in the folder named by `--out`",
    "performance score": "the file named by `--out`",
    "performance fit": "NAME.npz, NAME.json and NAME.fit.json in the folder named by `--out`",
}
EXITS_3 = {
    "plan": "no plan meets the limits",
    "appraise": "no plan meets the limits, with the offer or without it",
    "rehearse": "with `--strict`, some workload is not stationary",
    "demo": "no plan meets the limits",
}
EXIT_CODES = """| exit code | meaning |
|---|---|
| 0 | answered |
| 1 | a check of our own failed, or the solver stopped without an answer it can stand behind; nothing is written |
| 2 | bad input: every fault found, with file, row, column and mend |
| 3 | infeasible, or not stationary where a stationary answer was demanded |
| 130 | interrupted; what was finished is kept |
"""
JSON_KEYS = {
    "name": "Short name of the portfolio.",
    "files": "SHA-256 of each file read, by name.",
    "figures": "Figures of each table, by mark of confidence.",
    "profiles": "Names of the profiles of demand that a workload may have.",
    "folder": "Folder that was written.",
    "kept": "Names of earlier rehearsals that stayed.",
    "plan": "A [PlanResult](#planresult).",
    "appraisal": "An [Appraisal](#appraisal).",
    "offers": "An [OffersAppraisal](#offersappraisal), with `--all`.",
    "rehearsals": "A list of [Summary](#summary): the one asked for first.",
    "report": "Path of the page.",
    "path": "Path of the file.",
    "key": "The new key, with `--new-key`; that of the demo, with `--demo`.",
    "pools": "Number of pools, with `--check`.",
    "tenants": "Number of tenants, with `--check`.",
    "address": "Where the router listens, told when it is ready.",
    "workers": "Its processes.",
    "mock": "Where the mock pools listen, with `--demo`.",
    "replay": "A [Judged](#judged), with `--replay`.",
    "paths": "Paths of the reports.",
    "reports": "A list of [FitReport](#fitreport).",
    "tables": "Step tables: name, checkpoint, system, engine, chips, KV tokens, confidence, folder.",
    "table": "The step table: name, limits and provenance.",
    "built": "False where it was kept from before.",
    "score": "Duplicates dropped, reasons for what is not covered, and errors by group.",
    "comparison": "A [PlanComparison](#plancomparison), or of `rehearse --compare` a [Comparison](#comparison).",
    "file": "Path of the comparison.",
    "sums": "Lists of [Sum](#sum) by `outcome`, `tenant`, `workload` and `pool`.",
    "contracts": "A list of [Burn](#burn).",
    "notices": "A list of [Notice](#notice).",
    "trace": "An [Exported](#exported), with `--export`.",
    "measured": "An [Exported](#exported), with `--performance`.",
    "swept": "Requests that `--sweep` dropped.",
    "bytes": "Its size.",
}
ABOUT_JSON = """Every object has `verb` and `ok` too; `ok` is true when the exit code is 0. A rehearsal that `--strict`
refuses (exit code 3) or that was interrupted (130) is told in full, with `ok` false. A command line that cannot be read
(an unknown verb or option) is told on standard error only, with exit code 2. Any other error, with exit code 1, 2 or 3:
"""
ERROR_KEYS = {
    "ok": "False.",
    "exit_code": "The exit code.",
    "error": "`InputError`, `InfeasibleError`, `NotStationaryError`, `VerificationError` or `SolverError`.",
    "message": "Lines for a person.",
    "faults": "For bad input: objects with `file`, `problem`, `mend`, `row`, `column` and `value`.",
    "families": "For infeasible limits: the families in conflict, in words.",
}
