// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/**
 * @title How the escrow of one training is split
 * @notice Every division rounds down, and what is not paid out goes back to the buyer: so do the dust
 * and the parts of parties that did not answer. `commons/chain/settlement.py` mirrors this library.
 */
library Settlement {
    /// @notice 100 % in share units.
    uint256 internal constant WHOLE = 1e18;

    /**
     * @notice One escrow, divided.
     * @param aggregator The aggregator's 10 %.
     * @param validator Each validator's part of 20 %.
     * @param trainer Each trainer's part of the fixed share of 70 %.
     * @param reward What improvement adds, for all trainers together, by their shares.
     */
    struct Split {
        uint256 aggregator;
        uint256 validator;
        uint256 trainer;
        uint256 reward;
    }

    /**
     * @notice How many of `owners` train: ⌊(1 − validatorShare)·owners + ½⌋, at least 2, and at most all
     * but one.
     * @param owners At least 3.
     * @param validatorShare At most `WHOLE`.
     * @return The number of trainers.
     */
    function trainerCount(uint256 owners, uint256 validatorShare) internal pure returns (uint256) {
        uint256 rounded = (owners * (WHOLE - validatorShare) + WHOLE / 2) / WHOLE;
        return Math.min(Math.max(rounded, 2), owners - 1);
    }

    /**
     * @notice max(0, (initialMse − finalMse) / initialMse), and 0 when the zero model is perfect.
     * @param initialMse MSE of the zero model.
     * @param finalMse MSE of the delivered model, in the same unit.
     * @return In share units.
     */
    function improvement(uint256 initialMse, uint256 finalMse) internal pure returns (uint256) {
        return finalMse < initialMse ? Math.mulDiv(initialMse - finalMse, WHOLE, initialMse) : 0;
    }

    /**
     * @notice One trainer's part of all contributions; equal parts when nobody contributed.
     * @param contribution The trainer's.
     * @param total The sum over all `trainers`.
     * @param trainers How many there are.
     * @return In share units.
     */
    function share(uint256 contribution, uint256 total, uint256 trainers) internal pure returns (uint256) {
        return total == 0 ? WHOLE / trainers : Math.mulDiv(contribution, WHOLE, total);
    }

    /**
     * @notice Divide an escrow.
     * @param escrow In wei, below 2^128.
     * @param fixedShare Part of the trainers' money that does not depend on improvement.
     * @param improved The improvement, in share units.
     * @param trainers Number of trainers, paid or not.
     * @param validators Number of validators, paid or not.
     * @return parts What each kind of party gets.
     */
    function split(uint256 escrow, uint256 fixedShare, uint256 improved, uint256 trainers, uint256 validators)
        internal
        pure
        returns (Split memory parts)
    {
        // Whole wei at each step, so that the parts are parts of something that was itself paid in wei: the
        // buyer gets the dust of every step.
        uint256 trainersMoney = (escrow * 70) / 100;
        // slither-disable-next-line divide-before-multiply
        uint256 fixedMoney = (trainersMoney * fixedShare) / WHOLE;
        parts.aggregator = (escrow * 10) / 100;
        parts.validator = (escrow * 20) / 100 / validators;
        parts.trainer = fixedMoney / trainers;
        parts.reward = ((trainersMoney - fixedMoney) * improved) / WHOLE;
    }
}
