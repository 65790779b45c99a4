// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IMarketplace} from "./IMarketplace.sol";
import {Settlement} from "./Settlement.sol";

/// @notice Reads in one call what a test wants to know, and shows the library's arithmetic.
contract Auditor {
    function audit(IMarketplace marketplace, address[] calldata accounts, bytes32[] calldata ids)
        external
        view
        returns (uint256 balance, uint256[] memory credits, uint256[] memory statuses, address[][] memory owners)
    {
        balance = address(marketplace).balance;
        credits = new uint256[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            credits[i] = marketplace.credit(accounts[i]);
        }
        statuses = new uint256[](ids.length);
        owners = new address[][](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            IMarketplace.TrainingView memory t = marketplace.training(ids[i]);
            statuses[i] = uint256(t.status);
            owners[i] = new address[](t.owners.length);
            for (uint256 j = 0; j < t.owners.length; ++j) {
                owners[i][j] = t.owners[j].account;
            }
        }
    }

    function trainerCount(uint256 owners, uint256 validatorShare) external pure returns (uint256) {
        return Settlement.trainerCount(owners, validatorShare);
    }

    /// @notice The parts of trainers that all answered, and what is left of the escrow.
    function settle(
        uint256 escrow,
        uint256 fixedShare,
        uint256 initialMse,
        uint256 finalMse,
        uint256[] calldata contributions,
        uint256 validators
    ) external pure returns (uint256 aggregator, uint256 validator, uint256[] memory trainers) {
        uint256 improved = Settlement.improvement(initialMse, finalMse);
        Settlement.Split memory parts =
            Settlement.split(escrow, fixedShare, improved, contributions.length, validators);
        (aggregator, validator) = (parts.aggregator, parts.validator);
        uint256 total = 0;
        for (uint256 i = 0; i < contributions.length; ++i) {
            total += contributions[i];
        }
        trainers = new uint256[](contributions.length);
        for (uint256 i = 0; i < contributions.length; ++i) {
            uint256 share = Settlement.share(contributions[i], total, contributions.length);
            trainers[i] = parts.trainer + (parts.reward * share) / Settlement.WHOLE;
        }
    }
}
