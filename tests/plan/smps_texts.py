"""Two classics of stochastic programming, written out as SMPS files from their published figures."""

from __future__ import annotations

from pathlib import Path

WEATHER = {"good": 1.2, "mean": 1.0, "bad": 0.8}
YIELD_TONS_PER_ACRE = {"wheat": 2.5, "corn": 3.0, "beets": 20.0}


def write(folder: Path, core: str, time: str, stoch: str) -> tuple[Path, Path, Path]:
    """Write the three files."""
    paths = folder / "some.cor", folder / "some.tim", folder / "some.sto"
    for path, text in zip(paths, (core, time, stoch), strict=True):
        path.write_text(text)
    return paths


def farmer(folder: Path, section: str = "SCENARIOS") -> tuple[Path, Path, Path]:
    """Birge and Louveaux, Introduction to Stochastic Programming, section 1.1; yields are the random coefficients."""
    core = """NAME farmer
ROWS
 N cost
 L land
 G feed_wheat
 G feed_corn
 G crop_beets
COLUMNS
 wheat cost 150 land 1
 wheat feed_wheat 2.5
 corn cost 230 land 1
 corn feed_corn 3
 beets cost 260 land 1
 beets crop_beets 20
 sell_wheat cost -170 feed_wheat -1
 sell_corn cost -150 feed_corn -1
 sell_beets cost -36 crop_beets -1
 dump_beets cost -10 crop_beets -1
 buy_wheat cost 238 feed_wheat 1
 buy_corn cost 210 feed_corn 1
RHS
 RHS land 500 feed_wheat 200
 RHS feed_corn 240
BOUNDS
 UP BND sell_beets 6000
ENDATA
"""
    time = "TIME farmer\nPERIODS\n wheat land FIRST\n sell_wheat feed_wheat SECOND\nENDATA\n"
    rows = {"wheat": "feed_wheat", "corn": "feed_corn", "beets": "crop_beets"}
    stoch = f"STOCH farmer\n{section} DISCRETE\n"
    for name, factor in WEATHER.items():
        heads = {"SCENARIOS": f" SC {name} 'ROOT' {1 / 3!r} SECOND\n", "BLOCKS": f" BL weather SECOND {1 / 3!r}\n"}
        stoch += heads[section]
        stoch += "".join(f" {crop} {rows[crop]} {tons * factor!r}\n" for crop, tons in YIELD_TONS_PER_ACRE.items())
    return write(folder, core, time, stoch + "ENDATA\n")


def power_plants(folder: Path) -> tuple[Path, Path, Path]:
    """Louveaux and Smeers 1988: four kinds of plants serve a load curve of three modes, the first of them random."""
    invest, operate = (10, 7, 16, 6), ((40, 24, 4), (45, 27, 4.5), (32, 19.2, 3.2), (55, 33, 5.5))
    plants, modes = range(4), range(3)
    core = "NAME plants\nROWS\n N cost\n G enough\n L money\n"
    core += "".join(f" L plant{i}\n" for i in plants) + "".join(f" E mode{j}\n" for j in modes) + "COLUMNS\n"
    for i in plants:
        core += f" x{i} cost {invest[i]} enough 1\n x{i} money {invest[i]} plant{i} -1\n"
    for i in plants:
        core += "".join(f" y{i}{j} cost {operate[i][j]} plant{i} 1\n y{i}{j} mode{j} 1\n" for j in modes)
    core += "RHS\n RHS enough 12 money 120\n RHS mode0 1 mode1 3\n RHS mode2 2\nENDATA\n"
    time = "TIME plants\nPERIODS\n x0 enough FIRST\n y00 plant0 SECOND\nENDATA\n"
    stoch = "STOCH plants\nINDEP DISCRETE\n"
    stoch += "".join(f" RHS mode0 {load} SECOND {p}\n" for load, p in ((3, 0.3), (5, 0.4), (7, 0.3)))
    return write(folder, core, time, stoch + "ENDATA\n")
