from __future__ import annotations

import pytest

from commons.chain.marketplace import Role

from .world import World, address_of, refused


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.NONE])
def test_an_account_registers_itself_in_one_role(world: World, role: Role) -> None:
    newcomer = world.join(f"new {role.name}", Role.NONE)
    assert newcomer.role(address_of(newcomer)) is Role.NONE
    newcomer.register(role)
    assert newcomer.role(address_of(newcomer)) is role
    [log] = world.web3.eth.get_logs({"address": world.buyer._contract.address})
    event = world.buyer._contract.events.RoleRegistered().process_log(log)
    assert dict(event["args"]) == {"account": address_of(newcomer), "role": role}


def test_no_account_registers_twice(world: World) -> None:
    for role in (Role.DATA_OWNER, Role.MODEL_BUYER):
        with refused("AlreadyRegistered", account=address_of(world.buyer), role=Role.MODEL_BUYER):
            world.buyer.register(role)


def test_nobody_registers_as_nobody(world: World) -> None:
    with refused("InvalidRole", role=Role.NONE):
        world.stranger.register(Role.NONE)
