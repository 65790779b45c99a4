// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IMarketplace} from "./IMarketplace.sol";

/// @notice An account that is a contract: anyone makes it call anything, and it meets ether as it was told.
contract Puppet {
    enum Mood {
        REFUSE,
        REENTER
    }

    Mood private immutable MOOD;
    /// @notice Whether the call that it made on receiving ether went through.
    bool public reentered;

    constructor(Mood mood) payable {
        MOOD = mood;
    }

    function act(address target, bytes calldata data) external payable {
        (bool success, bytes memory answer) = target.call{value: msg.value}(data);
        if (!success) {
            assembly {
                revert(add(answer, 32), mload(answer))
            }
        }
    }

    receive() external payable {
        require(MOOD == Mood.REENTER, "no ether, thank you");
        (reentered,) = msg.sender.call(abi.encodeCall(IMarketplace.withdraw, ()));
    }
}
