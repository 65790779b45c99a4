from __future__ import annotations

from typing import Any

from commons.chain.artefact import ARTEFACT_PATH, load_artefact
from commons.chain.compiler import build_artefact, read_sources

from .world import World


def test_the_committed_artefact_is_what_the_sources_compile_to(compiled: dict[str, Any]) -> None:
    assert build_artefact(read_sources(), compiled) == load_artefact(), "run scripts/compile-contracts"


def test_the_artefact_is_small_and_the_contract_fits_the_chains_limit(world: World) -> None:
    assert ARTEFACT_PATH.stat().st_size < 64 * 1024
    assert len(world.web3.eth.get_code(world.buyer._contract.address)) <= 24_576
