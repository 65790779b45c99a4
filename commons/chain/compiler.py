"""Compile the contracts into the artefact that the gateway and the deployment read.

``python -m commons.chain.compiler`` (or ``scripts/compile-contracts``) writes ``contracts/Marketplace.json``:
ABI, bytecode, what compiled them, and the hashes of the sources. The artefact is committed, so only those who
change a contract need a compiler.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import solcx

from commons.chain.artefact import ARTEFACT_PATH, CONTRACTS

ROOT = CONTRACTS.parent
SOLC_VERSION = "0.8.37"
SETTINGS = {
    "evmVersion": "cancun",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 200},
    # Bytecode that changes with the code and not with its comments.
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
}


def compile_sources(sources: Mapping[str, str]) -> dict[str, Any]:
    """Compile Solidity with the settings of the marketplace.

    The compiler is the npm ``solc`` of ``package.json``; where that is not installed, py-solc-x downloads the
    native one of the same version. Both give the same bytecode.

    Parameters
    ----------
    sources : mapping of str to str
        Source text by file name. Imports of ``@openzeppelin/contracts`` are found in ``node_modules``.

    Returns
    -------
    dict
        The compiler's ``contracts``: file name → contract name → ``{"abi": …, "evm": …}``.

    Raises
    ------
    solcx.exceptions.SolcError
        The sources do not compile; the message is the compiler's.
    """
    binary: Path | None = ROOT / "scripts" / "solcjs"
    if not (ROOT / "node_modules" / "solc").is_dir():
        solcx.install_solc(SOLC_VERSION)
        binary = None
    output = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": SETTINGS,
        },
        base_path=ROOT / "node_modules",
        solc_binary=binary,
        solc_version=SOLC_VERSION,
    )
    contracts: dict[str, Any] = output["contracts"]
    return contracts


def read_sources() -> dict[str, str]:
    """Read every contract of the marketplace.

    Returns
    -------
    dict of str to str
        Source text by file name.
    """
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(CONTRACTS.glob("*.sol"))}


def build_artefact(sources: Mapping[str, str], contracts: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a compilation what the services need.

    Parameters
    ----------
    sources : mapping of str to str
        What was compiled, by file name.
    contracts : mapping
        What `compile_sources` returned for it.

    Returns
    -------
    dict
        The content of the artefact.
    """
    marketplace = contracts["Marketplace.sol"]["Marketplace"]
    return {
        "contract": "Marketplace",
        "compiler": {"solc": SOLC_VERSION}
        | {name: value for name, value in SETTINGS.items() if name != "outputSelection"},
        "sources": {name: "sha256:" + hashlib.sha256(text.encode()).hexdigest() for name, text in sources.items()},
        "bytecode": "0x" + marketplace["evm"]["bytecode"]["object"],
        "abi": marketplace["abi"],
    }


def main() -> None:
    """Compile the contracts and write the artefact."""
    sources = read_sources()
    artefact = build_artefact(sources, compile_sources(sources))
    entries = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in artefact.items())
    ARTEFACT_PATH.write_text("{\n" + entries + "\n}\n", encoding="utf-8")
    print(f"{ARTEFACT_PATH.relative_to(ROOT)}: {len(artefact['bytecode']) // 2 - 1} bytes to deploy")


if __name__ == "__main__":
    main()
