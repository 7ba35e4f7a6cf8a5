"""Write small portfolio folders for the tests of the schema room."""

from __future__ import annotations

from pathlib import Path

GOOD = {
    "portfolio.toml": """
[portfolio]
name = "small"
start = 2026-01-01
end = 2026-12-31
question = "lease"

[[region]]
region = "us"

[[model]]
model = "m"
stand_in = "llama-3.1-70b"

[[workload]]
workload = "chat"
model = "m"
kind = "interactive"
profile = "chat"
rate_rps = 10
regions = { us = 1.0 }
ttft_ms_p95 = 2000
tpot_ms_p95 = 50
value_usd_per_request = 0.01
""",
    "providers.csv": "provider,name,kind,competes\nacme,Acme,neocloud,false\n",
    "sites.csv": "site,name,residency,power_kw_max\nmemphis,Memphis,US,300 MW\n",
    "links.csv": "site,region,kind,bandwidth_gbit_s,rtt_ms_median,rtt_ms_p99\nmemphis,us,fibre,100,30,45\n",
    "chips.csv": "chip,name,facility_kw,memory_gb,memory_bandwidth_gb_s,peak_tflops\nh100,H100,1.4,80,3350,989\n",
    "deployments.csv": "model,chip,chips_per_replica,performance\nm,h100,4,table:llama-70b-h100\n",
    "offers.csv": (
        "offer,provider,fee_usd_per_month,sign_by,confidence,source,marks\n"
        "lease,acme,1.25 bn,2026-05-31,reported,https://example.org/a,fee_usd_per_month=confirmed\n"
    ),
    "tranches.csv": "offer,tranche,site,chip,chips_per_unit,available\nlease,one,memphis,h100,1000,2026-06-01\n",
    "exits.csv": (
        "offer,reading,weight,who,exit_from,notice_days\n"
        "lease,filing,0.4,either,2026-08-01,90\nlease,post,0.6,either,2026-11-01,90\n"
    ),
}


def write(folder: Path, **changes: str | None) -> Path:
    """Write the good folder with some files changed (``sites_csv="..."``) or left out (None)."""
    files: dict[str, str | None] = {**GOOD, **{name.replace("_", "."): text for name, text in changes.items()}}
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    return folder
