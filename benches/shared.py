"""What the programs in this folder share: processes and what they take, one client connection, and how it is told."""

import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = REPOSITORY / "target" / "release" / "vestibule"


# --- A server and what it takes ----------------------------------------------------------------------------------


def processes(root: int) -> list[int]:
    """The process and all that descend from it."""
    tree, wanted = [], [root]
    while wanted:
        pid = wanted.pop()
        tree.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                wanted += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            pass
    return tree


def cpu(root: int) -> float:
    """Seconds of processor time so far, to the nanosecond where the kernel tells."""
    total = 0.0
    for pid in processes(root):
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
            except OSError:
                fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(root: int) -> int:
    """Bytes of memory, shared pages divided among those that share them."""
    lines = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in processes(root)]
    return sum(int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) * 1024 for text in lines)


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed one for localhost."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "3650", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)


# --- A client ----------------------------------------------------------------------------------------------------


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def answer_of(stream) -> bytes:
    """One answer with a Content-Length, or without a body."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = stream.recv(65536)
        if not piece:
            sys.exit("a connection was closed without an answer")
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head + b"\r\ncontent-length: 0").group(1))
    left = length - len(body)
    while left > 0:
        left -= len(stream.recv(65536))
    return head


# --- How it is told ----------------------------------------------------------------------------------------------


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"


def mebibytes(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)
