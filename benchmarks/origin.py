"""An S3 that is much faster than any client: nginx with sendfile, listings in Lua, signatures not looked at.

    python -m benchmarks.origin --serve         starts it over the full data, prints its addresses, until Ctrl-C

Four origins serve the same tree: plain HTTP, HTTPS, HTTP with 30 ms before each answer, and that with 80 MB/s for each
connection. A GET's ETag is nginx's own ("mtime-size" in hexadecimal); the listing tells the same. Further ones tell
checksums, as S3 does: the listing their algorithm, a GET or HEAD the value. Where that is one of parts ("VALUE-3"), the
ETag is "mtime-3", and If-Match is not looked at.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CACHE = Path(__file__).parent / ".cache"
MTIME = 1_700_000_000
"""Of every object."""

MADE_UP = b"0123456789abcdef"
"""What an object holds for which there is no file."""

MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
PACKAGES = ("nginx-common", "nginx", "libnginx-mod-http-ndk", "libnginx-mod-http-lua")
LIBRARIES = ("libpcre3", "libluajit2-5.1-2", "libluajit2-5.1-common", "lua-resty-core", "lua-resty-lrucache")

LUA = r"""
local sets = { %(sets)s }
sums = { %(sums)s }

local function unescaped(text) return text and ngx.unescape_uri(text) or nil end

local function parts_of(value) return value and string.match(value, "%%-(%%d+)$") end

function list(delay, kind, algorithm)
    if delay > 0 then ngx.sleep(delay) end
    ngx.shared.counts:incr("lists", 1, 0)
    local asked = ngx.req.get_uri_args(10)
    local prefix = asked["prefix"] or ""
    local after = asked["continuation-token"] or asked["start-after"] or ""
    local most = tonumber(asked["max-keys"] or "1000")
    local set = sets[string.match(prefix, "^[^/]*")]
    local out = {'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
        '<Name>bucket</Name><Prefix>', prefix, '</Prefix><MaxKeys>', most, '</MaxKeys><EncodingType>url</EncodingType>'}
    local rows, last, n = {}, nil, 0
    local from = 0
    if set then
        local head = set.name .. "/"
        if asked["delimiter"] and prefix == set.name then
            out[#out+1] = '<IsTruncated>false</IsTruncated><KeyCount>1</KeyCount><CommonPrefixes><Prefix>' .. head
                .. '</Prefix></CommonPrefixes></ListBucketResult>'
            return send(table.concat(out))
        end
        -- The first number whose key is greater than `after` and not less than `prefix`: keys are in order.
        local low, high = 0, set.count
        while low < high do
            local mid = math.floor((low + high) / 2)
            local key = head .. string.format("%%08d", mid)
            if key <= after or key < prefix then low = mid + 1 else high = mid end
        end
        from = low
        while from < set.count and n < most do
            local key = head .. string.format("%%08d", from)
            if string.sub(key, 1, #prefix) ~= prefix then break end
            local size = set.sizes and set.sizes[from + 1] or set.size
            n = n + 1
            local value = kind and sums[kind]["/bucket/" .. key]
            rows[n] = string.format('<Contents><Key>%%s</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified>'
                .. '<ETag>&quot;%%x-%%s&quot;</ETag>%%s<Size>%%d</Size><StorageClass>STANDARD</StorageClass>'
                .. '</Contents>', key, %(mtime)d, parts_of(value) or string.format("%%x", size),
                value and "<ChecksumAlgorithm>" .. algorithm .. "</ChecksumAlgorithm>" or "", size)
            last = key
            from = from + 1
        end
        local more = from < set.count and string.sub(head .. string.format("%%08d", from), 1, #prefix) == prefix
        if more and n > 0 then
            out[#out+1] = '<IsTruncated>true</IsTruncated><NextContinuationToken>' .. last .. '</NextContinuationToken>'
        else
            out[#out+1] = '<IsTruncated>false</IsTruncated>'
        end
    else
        out[#out+1] = '<IsTruncated>false</IsTruncated>'
    end
    out[#out+1] = '<KeyCount>' .. n .. '</KeyCount>'
    out[#out+1] = table.concat(rows)
    out[#out+1] = '</ListBucketResult>'
    send(table.concat(out))
end

function tell(kind, algorithm)
    local value = sums[kind][ngx.var.uri]
    if value then
        local parts = parts_of(value)
        ngx.header["x-amz-checksum-" .. algorithm] = value
        ngx.header["x-amz-checksum-type"] = parts and "COMPOSITE" or "FULL_OBJECT"
        if parts then ngx.header["ETag"] = string.format('"%%x-%%s"', %(mtime)d, parts) end
    end
end

function accept_any(kind)
    if parts_of(sums[kind][ngx.var.uri]) then ngx.req.clear_header("If-Match") end
end

function send_tiny()
    ngx.header["ETag"] = string.format('"%%x-%%x"', %(mtime)d, 16)
    ngx.header["Last-Modified"] = "Tue, 14 Nov 2023 22:13:20 GMT"
    if ngx.var.http_range then  -- any range holds the whole: the AWS CRT never asks without
        ngx.status = 206
        ngx.header["Content-Range"] = "bytes 0-15/16"
    end
    send("%(made_up)s")
end

function count()
    local c = ngx.shared.counts
    c:incr("gets", 1, 0)
    if ngx.var.connection_requests == "1" then c:incr("connections", 1, 0) end
end

function send(text)
    ngx.header["Content-Type"] = "application/xml"
    ngx.header["Content-Length"] = #text
    ngx.print(text)
end
"""

SERVER = """
    server {
        listen 127.0.0.1:%(port)d%(tls)s backlog=4096 reuseport;
        %(certificate)s
        root %(root)s;
        location = /bucket { content_by_lua_block { list(%(delay)s%(algorithm)s) } }
        location = /bucket/ { content_by_lua_block { list(%(delay)s%(algorithm)s) } }
        location = /counts { content_by_lua_block {
            local c = ngx.shared.counts
            ngx.print((c:get("gets") or 0) .. " " .. (c:get("lists") or 0) .. " " .. (c:get("connections") or 0))
        } }
        location /bucket/million {
            %(sleep)s
            content_by_lua_block { send_tiny() }
            log_by_lua_block { count() }
        }
        location /bucket/ {
            %(sleep)s
            %(rate)s
            %(tell)s
            default_type binary/octet-stream;
            log_by_lua_block { count() }
        }
    }
"""

TELL = """
            access_by_lua_block { accept_any("%(kind)s") }
            header_filter_by_lua_block { tell("%(kind)s", "%(algorithm)s") }
"""

CONFIG = """
%(modules)s
worker_processes 2; worker_rlimit_nofile %(files)d;
pid %(here)s/pid;
error_log %(here)s/error.log crit;
daemon off;
events { worker_connections 8192; multi_accept on; }
http {
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; open_file_cache max=%(cached)d inactive=600s;
    keepalive_requests 100000000; keepalive_timeout 300s; ssl_session_cache shared:tls:10m;
    # TLS 1.3, and AES-128 before AES-256 whatever the client prefers: so are AWS's own TLS policies (s2n-tls).
    ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;
    client_body_temp_path %(here)s/body; proxy_temp_path %(here)s/proxy; fastcgi_temp_path %(here)s/fastcgi;
    uwsgi_temp_path %(here)s/uwsgi; scgi_temp_path %(here)s/scgi;
    lua_shared_dict counts 1m; lua_package_path "%(lua)s/?.lua;;";
    init_by_lua_file %(here)s/list.lua;
%(servers)s
}
"""


@dataclass(frozen=True)
class DataSet:
    """Objects `NAME/00000000` and on, all of one size, or each of its own."""

    name: str
    sizes: tuple[int, ...]
    stored: bool = True
    """Files are made for them; else nginx makes up 16 bytes each."""


def make_data(root: Path, sets: list[DataSet]) -> None:
    """Write what is not there yet: no two objects are alike in their first bytes."""
    for data in sets:
        directory = root / "bucket" / data.name
        done = directory.with_suffix(".done")
        if not data.stored or (done.exists() and done.read_text() == repr(data)):
            continue
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        noise = os.urandom(8 << 20)
        for number, size in enumerate(data.sizes):
            path = directory / f"{number:08d}"
            with path.open("wb") as file:
                file.write(f"{data.name} {number:08d}\n".encode()[:size])
                while (left := size - file.tell()) > 0:
                    file.write(noise[: min(left, len(noise))])
            os.utime(path, (MTIME, MTIME))
        done.write_text(repr(data))


class Origin:
    """The running nginx. A context manager."""

    def __init__(self, root: Path, sets: list[DataSet], sums: Mapping[str, Path] | None = None) -> None:
        """`sums`: checksums as a table in Lua, by names that begin with their algorithm and go on with a space or not
        at all; an origin of each name tells them."""
        self.root = root
        self._sets = sets
        self._sums = dict(sums or {})
        self._here = CACHE / "nginx"
        self._process: subprocess.Popen[bytes] | None = None
        names = ("http", "https", "slow", "limited", *self._sums)
        self.ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.ca = self._here / "ca.pem"

    def url(self, kind: str) -> str:
        """The address of one of the four origins."""
        return f"{'https' if kind == 'https' else 'http'}://127.0.0.1:{self.ports[kind]}"

    def fill(self, data: DataSet, dest: Path) -> None:
        """Write the objects that nginx makes up to where a mirror has them, as the AWS CLI would: with their times."""
        dest.mkdir(parents=True)
        directory_fd = os.open(dest, os.O_RDONLY)
        for number in range(len(data.sizes)):
            name = f"{number:08d}"
            file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o666, dir_fd=directory_fd)
            os.write(file, MADE_UP)
            os.utime(file, (MTIME, MTIME))
            os.close(file)
        os.close(directory_fd)

    def counts(self) -> tuple[int, int, int]:
        """GETs (HEADs as well), listings and connections for those so far."""
        with urllib.request.urlopen(f"{self.url('http')}/counts") as answer:
            gets, lists, connections = answer.read().split()
        return int(gets), int(lists), int(connections)

    def __enter__(self) -> Self:
        self._here.mkdir(parents=True, exist_ok=True)
        nginx, modules, lua = _nginx()
        _certificate(self._here)
        kinds = {
            "http": ("", "", 0),
            "https": ("ssl", "", 0),
            "slow": ("", "", 0.03),
            "limited": ("", "limit_rate 80m;", 0.03),
            **dict.fromkeys(self._sums, ("", "", 0)),
        }
        servers = "".join(
            SERVER
            % {
                "port": self.ports[kind],
                "tls": f" {tls}" if tls else "",
                "certificate": f"ssl_certificate {self.ca}; ssl_certificate_key {self._here}/key.pem;" if tls else "",
                "root": self.root,
                "delay": delay,
                "algorithm": f', "{kind}", "{kind.split()[0].upper()}"' if kind in self._sums else "",
                "sleep": f"access_by_lua_block {{ ngx.sleep({delay}) }}" if delay else "",
                "rate": rate,
                "tell": TELL % {"kind": kind, "algorithm": kind.split()[0]} if kind in self._sums else "",
            }
            for kind, (tls, rate, delay) in kinds.items()
        )
        sets = ", ".join(
            f'["{data.name}"] = {{name = "{data.name}", count = {len(data.sizes)}, size = {data.sizes[0]}'
            + (f", sizes = {{{','.join(map(str, data.sizes))}}}" if len(set(data.sizes)) > 1 else "")
            + "}"
            for data in self._sets
        )
        sums = ", ".join(f'["{algorithm}"] = dofile("{path}")' for algorithm, path in self._sums.items())
        (self._here / "list.lua").write_text(
            LUA % {"sets": sets, "sums": sums, "mtime": MTIME, "made_up": MADE_UP.decode()}
        )
        config = self._here / "nginx.conf"
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 100_000)
        config.write_text(
            CONFIG
            % {
                "modules": "\n".join(f"load_module {modules / name};" for name in MODULES),
                "here": self._here,
                "servers": servers,
                "lua": lua,
                "files": files,
                "cached": files // 4,
            }
        )
        env = dict(os.environ)
        if (CACHE / "debs").exists():
            env["LD_LIBRARY_PATH"] = ":".join(map(str, (CACHE / "debs").glob("**/lib/*-linux-gnu")))
        self._process = subprocess.Popen([nginx, "-c", str(config)], env=env)
        for _ in range(100):
            time.sleep(0.05)
            try:
                self.counts()
            except OSError:
                continue
            return self
        self.__exit__()
        raise RuntimeError(f"nginx does not answer; see {self._here}/error.log")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _certificate(here: Path) -> None:
    if not (here / "ca.pem").exists():
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", "3650", "-subj", "/CN=sealift benchmark"),
                *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
                *("-keyout", str(here / "key.pem"), "-out", str(here / "ca.pem")),
            ],
            check=True,
            capture_output=True,
        )


def _nginx() -> tuple[str, Path, Path]:
    """Return nginx, its modules' directory and that of Lua's libraries: the system's, or Debian's unpacked here."""
    system = Path("/usr/lib/nginx/modules")
    if shutil.which("nginx") and all((system / name).exists() for name in MODULES):
        return "nginx", system, Path("/usr/share/lua/5.1")
    debs = CACHE / "debs"
    if not (debs / "usr/sbin/nginx").exists():
        debs.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", *PACKAGES, *LIBRARIES], cwd=debs, check=True)
        for deb in debs.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(deb), str(debs)], check=True)
    return str(debs / "usr/sbin/nginx"), debs / "usr/lib/nginx/modules", debs / "usr/share/lua/5.1"


def main() -> None:
    """Serve until Ctrl-C."""
    from benchmarks.rows import data_sets

    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true", required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    sets = data_sets(asked.scale)
    root = CACHE / f"data-{asked.scale:g}"
    make_data(root, sets)
    with Origin(root, sets) as origin:
        for kind in origin.ports:
            sys.stdout.write(f"{kind:8} {origin.url(kind)}\n")
        sys.stdout.write(f"CA       {origin.ca}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            time.sleep(1e9)


if __name__ == "__main__":
    main()
