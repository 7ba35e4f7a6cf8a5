"""Hold every conversion factor of the package; no other module may write one.

A quantity's name ends in its unit (``ttft_ms_p95``, ``power_kw_max``). Inside a room each
dimension has one unit: hours in the plan, int64 nanoseconds in rehearsal and router, US dollars,
tokens, bytes, kW. This module only converts; it knows no file, no clock and no random number.
"""

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MS_PER_S = 1_000
S_PER_MINUTE = 60
S_PER_HOUR = 3_600
S_PER_DAY = 86_400
S_PER_WEEK = 604_800
HOURS_PER_DAY = 24
DAYS_PER_WEEK = 7
HOURS_PER_WEEK = 168
HOURS_PER_YEAR = 8_760
HOURS_PER_MONTH = HOURS_PER_YEAR / 12
DAYS_PER_YEAR = 365
MONTHS_PER_YEAR = 12
NS_PER_HOUR = S_PER_HOUR * NS_PER_S
NS_PER_DAY = S_PER_DAY * NS_PER_S

KW_PER_MW = 1_000
KW_PER_GW = 1_000_000
BITS_PER_BYTE = 8
BITS_PER_GBIT = 1_000_000_000
BYTES_PER_GB = 1_000_000_000
BYTES_PER_MB = 1_000_000
FLOPS_PER_TFLOP = 1_000_000_000_000
TOKENS_PER_MILLION = 1_000_000
USD_PER_MILLION = 1_000_000
USD_PER_BILLION = 1_000_000_000
PERCENT = 100
