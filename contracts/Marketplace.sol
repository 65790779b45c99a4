// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IMarketplace} from "./IMarketplace.sol";
import {Settlement} from "./Settlement.sol";

/**
 * @title The DeltaML marketplace
 * @notice See {IMarketplace}. Nobody owns this contract, and nothing in it can be changed.
 */
contract Marketplace is IMarketplace, ReentrancyGuardTransient {
    /// @dev Fewer cannot give two trainers and a validator.
    uint256 private constant LEAST_OWNERS = 3;
    /// @dev More might not fit a settlement into one block.
    uint256 private constant MOST_OWNERS = 256;
    /// @dev Bounds how long an escrow can be locked by a slip of units in an order.
    uint256 private constant LONGEST_TRAINING = 365 days;
    uint256 private constant LONGEST_REVIEW = 30 days;
    /// @dev What an aggregator has, after the join deadline, to close joining.
    uint256 private constant CLOSING_PERIOD = 1 days;
    uint256 private constant ARBITER_PERIOD = 7 days;
    /// @dev How far back the EVM knows block hashes.
    uint256 private constant KNOWN_HASHES = 256;
    /// @dev A dispute costs this part of the escrow, rounded up.
    uint256 private constant BOND_DIVISOR = 20;

    /// @dev A data owner's part in one training: one slot.
    struct Participation {
        uint64 rows;
        uint64 share;
        uint32 position; // in `owners`, from 1; 0 means it takes no part
        bool answered;
    }

    /// @dev Packed into slots by who reads what together: `saveMse` touches the first one only.
    struct Training {
        address aggregator;
        Status status;
        uint32 evaluations;
        uint16 trainers;
        uint40 closedBlock;
        // ---
        address buyer;
        uint40 orderedBlock;
        uint40 joinDeadline;
        uint16 wantedOwners;
        // ---
        address arbiter;
        uint40 trainingDeadline;
        uint32 reviewPeriod;
        uint16 minimumOwners;
        // ---
        uint128 escrow;
        uint64 fixedShare;
        uint64 validatorShare;
        // ---
        bytes32 orderHash;
        bytes32 digest;
        // ---
        uint64 improvement;
        uint40 deadline;
        // ---
        address disputer;
        address[] owners;
        mapping(address owner => Participation) participations;
    }

    /// @inheritdoc IMarketplace
    mapping(address account => Role) public override role;
    /// @inheritdoc IMarketplace
    mapping(address account => uint256) public override credit;
    mapping(bytes32 id => Training) private _trainings;

    /// @inheritdoc IMarketplace
    function register(Role newRole) external {
        if (newRole == Role.NONE) revert InvalidRole(newRole);
        if (role[msg.sender] != Role.NONE) revert AlreadyRegistered(msg.sender, role[msg.sender]);
        role[msg.sender] = newRole;
        emit RoleRegistered(msg.sender, newRole);
    }

    /// @inheritdoc IMarketplace
    function newModel(bytes32 id, bytes32 modelType, address aggregator, Terms calldata terms) external payable {
        Training storage t = _trainings[id];
        if (t.status != Status.NONE) revert IdTaken(id);
        _requireRole(msg.sender, Role.MODEL_BUYER);
        _requireRole(aggregator, Role.FEDERATED_AGGREGATOR);
        _requireRole(terms.arbiter, Role.ARBITER);
        _requireValid(terms);
        if (msg.value == 0 || msg.value > type(uint128).max) revert InvalidEscrow(msg.value, type(uint128).max);

        _move(id, t, Status.OPEN);
        t.buyer = msg.sender;
        t.aggregator = aggregator;
        t.escrow = uint128(msg.value);
        t.orderedBlock = uint40(block.number);
        t.arbiter = terms.arbiter;
        t.wantedOwners = terms.wantedOwners;
        t.minimumOwners = terms.minimumOwners;
        t.joinDeadline = terms.joinDeadline;
        t.trainingDeadline = terms.trainingDeadline;
        t.reviewPeriod = terms.reviewPeriod;
        t.fixedShare = terms.fixedShare;
        t.validatorShare = terms.validatorShare;
        t.orderHash = terms.orderHash;
        emit ModelOrdered(id, msg.sender, aggregator, modelType, terms);
        emit ModelCreationPayment(id, msg.sender, msg.value);
    }

    /// @inheritdoc IMarketplace
    function cancel(bytes32 id) external {
        Training storage t = _trainings[id];
        _move(id, t, Status.CANCELLED);
        uint256 accepted = t.owners.length;
        if (accepted != 0 || msg.sender != t.buyer) {
            uint256 patience = accepted < t.minimumOwners ? 0 : CLOSING_PERIOD;
            _requireAfter(t.joinDeadline + patience);
        }
        emit TrainingCancelled(id);
        _refund(id, t);
    }

    /// @inheritdoc IMarketplace
    function acceptTraining(bytes32 id, uint64 rows) external {
        Training storage t = _trainings[id];
        _requireStatus(id, t, Status.OPEN);
        _requireRole(msg.sender, Role.DATA_OWNER);
        _requireNotAfter(t.joinDeadline);
        if (rows == 0) revert NoRows();
        Participation storage own = t.participations[msg.sender];
        if (own.position != 0) revert AlreadyAccepted(id, msg.sender);
        if (t.owners.length == t.wantedOwners) revert EnoughOwners(id, t.wantedOwners);

        t.owners.push(msg.sender);
        own.rows = rows;
        own.position = uint32(t.owners.length);
        emit TrainingAccepted(id, msg.sender, rows);
    }

    /// @inheritdoc IMarketplace
    function withdrawAcceptance(bytes32 id) external {
        Training storage t = _trainings[id];
        _requireStatus(id, t, Status.OPEN);
        uint32 position = t.participations[msg.sender].position;
        if (position == 0) revert NotParticipant(id, msg.sender);

        address last = t.owners[t.owners.length - 1];
        t.owners[position - 1] = last;
        t.participations[last].position = position;
        t.owners.pop();
        delete t.participations[msg.sender];
        emit AcceptanceWithdrawn(id, msg.sender);
    }

    /// @inheritdoc IMarketplace
    function closeJoining(bytes32 id) external {
        Training storage t = _trainings[id];
        if (t.status == Status.CLOSED && block.number <= t.closedBlock + KNOWN_HASHES) {
            revert AlreadyClosed(id, t.closedBlock);
        }
        _move(id, t, Status.CLOSED);
        _requireCaller(t.aggregator);
        uint256 accepted = t.owners.length;
        if (accepted < t.minimumOwners) revert TooFewOwners(id, accepted, t.minimumOwners);
        if (accepted < t.wantedOwners) _requireAfter(t.joinDeadline);

        t.closedBlock = uint40(block.number);
        emit JoiningClosed(id, block.number);
    }

    /// @inheritdoc IMarketplace
    function startTraining(bytes32 id) external {
        Training storage t = _trainings[id];
        _move(id, t, Status.TRAINING);
        _requireCaller(t.aggregator);
        bytes32 entropy = blockhash(t.closedBlock);
        if (entropy == 0) revert BlockHashUnavailable(t.closedBlock, block.number);

        address[] memory owners = t.owners;
        // Fisher-Yates. The id keeps trainings that closed in one block apart. From here on an owner's
        // position only says that it takes part, so the shuffle leaves it alone.
        // The draw decides who validates, not who wins a prize: what a block's proposer could gain by
        // withholding blocks is far below their reward, and the modulo's bias is below 2^-247.
        for (uint256 i = owners.length - 1; i > 0; --i) {
            // slither-disable-next-line weak-prng
            uint256 j = uint256(keccak256(abi.encode(entropy, id, i))) % (i + 1);
            (owners[i], owners[j]) = (owners[j], owners[i]);
        }
        uint256 trainers = Settlement.trainerCount(owners.length, t.validatorShare);
        t.owners = owners;
        t.trainers = uint16(trainers);
        emit TrainingStarted(id, _slice(owners, 0, trainers), _slice(owners, trainers, owners.length));
    }

    /// @inheritdoc IMarketplace
    function saveMse(bytes32 id, uint32 iteration, uint256 mse) external {
        Training storage t = _trainings[id];
        _requireStatus(id, t, Status.TRAINING);
        _requireCaller(t.aggregator);
        uint32 least = t.evaluations;
        if (iteration < least || (least == 0 && iteration != 0)) revert WrongIteration(iteration, least);

        t.evaluations = iteration + 1;
        emit MseSaved(id, iteration, mse);
    }

    /// @inheritdoc IMarketplace
    function reportResult(bytes32 id, Result calldata result) external {
        Training storage t = _trainings[id];
        _move(id, t, Status.REPORTED);
        _requireCaller(t.aggregator);
        _requireNotAfter(t.trainingDeadline);

        t.deadline = uint40(block.timestamp + t.reviewPeriod);
        bytes32 digest = _record(t, result);
        emit ResultReported(id, digest, result);
    }

    /// @inheritdoc IMarketplace
    function abortTraining(bytes32 id, string calldata reason) external {
        Training storage t = _trainings[id];
        _move(id, t, Status.FAILED);
        _requireCaller(t.aggregator);
        emit TrainingFailed(id, reason);
        _refund(id, t);
    }

    /// @inheritdoc IMarketplace
    function expire(bytes32 id) external {
        Training storage t = _trainings[id];
        _move(id, t, Status.EXPIRED);
        _requireAfter(t.trainingDeadline);
        emit TrainingExpired(id);
        _refund(id, t);
    }

    /// @inheritdoc IMarketplace
    function finishModelTraining(bytes32 id, bytes32 digest) external {
        Training storage t = _trainings[id];
        _requireStatus(id, t, Status.REPORTED);
        _requireCaller(t.buyer);
        if (digest != t.digest) revert DigestMismatch(t.digest, digest);
        _move(id, t, Status.FINISHED);
        _settle(id, t);
    }

    /// @inheritdoc IMarketplace
    function disputeResult(bytes32 id, bytes32 evidenceHash) external payable {
        Training storage t = _trainings[id];
        _move(id, t, Status.DISPUTED);
        if (msg.sender != t.buyer && t.participations[msg.sender].position == 0) {
            revert NotParticipant(id, msg.sender);
        }
        _requireNotAfter(t.deadline);
        uint256 bond = _bond(t);
        if (msg.value != bond) revert WrongBond(msg.value, bond);

        t.disputer = msg.sender;
        t.deadline = uint40(block.timestamp + ARBITER_PERIOD);
        emit ResultDisputed(id, msg.sender, evidenceHash, bond);
    }

    /// @inheritdoc IMarketplace
    function resolve(bytes32 id, Outcome outcome, Result calldata corrected) external {
        Training storage t = _trainings[id];
        _requireStatus(id, t, Status.DISPUTED);
        _requireCaller(t.arbiter);
        _requireNotAfter(t.deadline);

        _move(id, t, Status.FINISHED);
        emit DisputeResolved(id, msg.sender, outcome);
        _payBond(id, t, outcome == Outcome.AS_REPORTED ? t.arbiter : t.disputer);
        if (outcome == Outcome.REFUND) {
            _refund(id, t);
            return;
        }
        if (outcome == Outcome.CORRECTED) {
            bytes32 digest = _record(t, corrected);
            emit ResultCorrected(id, digest, corrected);
        }
        _settle(id, t);
    }

    /// @inheritdoc IMarketplace
    function finalize(bytes32 id) external {
        Training storage t = _trainings[id];
        bool disputed = t.status == Status.DISPUTED;
        _move(id, t, Status.FINISHED);
        _requireAfter(t.deadline);
        // Silence proves nobody right; paying an arbiter for it would invite it.
        if (disputed) _payBond(id, t, t.disputer);
        _settle(id, t);
    }

    /// @inheritdoc IMarketplace
    function withdraw() external nonReentrant {
        uint256 amount = credit[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        credit[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @inheritdoc IMarketplace
    function training(bytes32 id) external view returns (TrainingView memory) {
        Training storage t = _trainings[id];
        Participant[] memory owners = new Participant[](t.owners.length);
        for (uint256 i = 0; i < owners.length; ++i) {
            address account = t.owners[i];
            Participation storage own = t.participations[account];
            owners[i] = Participant(account, own.rows, own.share, own.answered);
        }
        return TrainingView({
            status: t.status,
            buyer: t.buyer,
            aggregator: t.aggregator,
            escrow: t.escrow,
            bond: _bond(t),
            terms: Terms({
                arbiter: t.arbiter,
                wantedOwners: t.wantedOwners,
                minimumOwners: t.minimumOwners,
                joinDeadline: t.joinDeadline,
                trainingDeadline: t.trainingDeadline,
                reviewPeriod: t.reviewPeriod,
                fixedShare: t.fixedShare,
                validatorShare: t.validatorShare,
                orderHash: t.orderHash
            }),
            owners: owners,
            trainers: t.trainers,
            evaluations: t.evaluations,
            orderedBlock: t.orderedBlock,
            closedBlock: t.closedBlock,
            digest: t.digest,
            improvement: t.improvement,
            deadline: t.deadline,
            disputer: t.disputer
        });
    }

    /**
     * @dev
     *   NONE     → OPEN       newModel
     *   OPEN     → CLOSED     closeJoining
     *   OPEN     → CANCELLED  cancel
     *   CLOSED   → CLOSED     closeJoining, when the start came too late
     *   CLOSED   → TRAINING   startTraining
     *   TRAINING → REPORTED   reportResult
     *   CLOSED, TRAINING → FAILED   abortTraining
     *   CLOSED, TRAINING → EXPIRED  expire
     *   REPORTED → DISPUTED   disputeResult
     *   REPORTED → FINISHED   finishModelTraining, finalize
     *   DISPUTED → FINISHED   resolve, finalize
     */
    function _follows(Status status, Status next) private pure returns (bool) {
        if (status == Status.NONE) return next == Status.OPEN;
        if (status == Status.OPEN) return next == Status.CLOSED || next == Status.CANCELLED;
        if (status == Status.CLOSED && (next == Status.CLOSED || next == Status.TRAINING)) return true;
        if (status == Status.TRAINING && next == Status.REPORTED) return true;
        if (status == Status.CLOSED || status == Status.TRAINING) {
            return next == Status.FAILED || next == Status.EXPIRED;
        }
        if (status == Status.REPORTED) return next == Status.DISPUTED || next == Status.FINISHED;
        return status == Status.DISPUTED && next == Status.FINISHED;
    }

    function _move(bytes32 id, Training storage t, Status next) private {
        if (!_follows(t.status, next)) revert InvalidTransition(id, t.status, next);
        t.status = next;
    }

    /// @dev Keeps of a result what settlement needs: who is paid, by which share, and the improvement.
    function _record(Training storage t, Result calldata result) private returns (bytes32 digest) {
        uint256 trainers = t.trainers;
        uint256 owners = t.owners.length;
        _requireLength("partialMses", result.partialMses.length, trainers);
        _requireLength("contributions", result.contributions.length, trainers);
        _requireLength("trainersAnswered", result.trainersAnswered.length, trainers);
        _requireLength("validatorsAnswered", result.validatorsAnswered.length, owners - trainers);

        uint256 total = 0;
        for (uint256 i = 0; i < trainers; ++i) {
            total += result.contributions[i];
        }
        for (uint256 i = 0; i < owners; ++i) {
            Participation storage own = t.participations[t.owners[i]];
            if (i < trainers) {
                own.share = uint64(Settlement.share(result.contributions[i], total, trainers));
                own.answered = result.trainersAnswered[i];
            } else {
                own.answered = result.validatorsAnswered[i - trainers];
            }
        }
        digest = keccak256(abi.encode(result));
        t.digest = digest;
        t.improvement = uint64(Settlement.improvement(result.initialMse, result.finalMse));
    }

    /// @dev Turns the escrow into credits. Callers have moved to FINISHED, from where nothing leads back.
    function _settle(bytes32 id, Training storage t) private {
        emit TrainingFinished(id);
        uint256 trainers = t.trainers;
        uint256 owners = t.owners.length;
        Settlement.Split memory parts =
            Settlement.split(t.escrow, t.fixedShare, t.improvement, trainers, owners - trainers);

        uint256 left = t.escrow - parts.aggregator;
        credit[t.aggregator] += parts.aggregator;
        emit OrchestrationPayment(id, t.aggregator, parts.aggregator);
        for (uint256 i = 0; i < owners; ++i) {
            address owner = t.owners[i];
            Participation storage own = t.participations[owner];
            if (!own.answered) continue;
            uint256 amount = parts.validator;
            if (i < trainers) {
                amount = parts.trainer + (parts.reward * own.share) / Settlement.WHOLE;
                emit ContributionPayment(id, owner, amount);
            } else {
                emit ValidationPayment(id, owner, amount);
            }
            left -= amount;
            credit[owner] += amount;
        }
        credit[t.buyer] += left;
        emit ModelBuyerReturnPayment(id, t.buyer, left);
    }

    function _refund(bytes32 id, Training storage t) private {
        credit[t.buyer] += t.escrow;
        emit ModelBuyerReturnPayment(id, t.buyer, t.escrow);
    }

    function _payBond(bytes32 id, Training storage t, address receiver) private {
        uint256 bond = _bond(t);
        credit[receiver] += bond;
        emit BondPayment(id, receiver, bond);
    }

    function _bond(Training storage t) private view returns (uint256) {
        return (uint256(t.escrow) + BOND_DIVISOR - 1) / BOND_DIVISOR;
    }

    function _requireValid(Terms calldata terms) private view {
        if (
            terms.minimumOwners < LEAST_OWNERS || terms.wantedOwners < terms.minimumOwners
                || terms.wantedOwners > MOST_OWNERS
        ) {
            revert InvalidOwnerCounts(terms.minimumOwners, terms.wantedOwners, LEAST_OWNERS, MOST_OWNERS);
        }
        uint256 latest = block.timestamp + LONGEST_TRAINING;
        // Deadlines are hours and days apart; the seconds that a block's proposer can choose do not matter.
        // slither-disable-start timestamp
        if (
            terms.joinDeadline <= block.timestamp || terms.trainingDeadline <= terms.joinDeadline
                || terms.trainingDeadline > latest
        ) {
            revert InvalidDeadlines(terms.joinDeadline, terms.trainingDeadline, block.timestamp, latest);
        }
        // slither-disable-end timestamp
        if (terms.reviewPeriod == 0 || terms.reviewPeriod > LONGEST_REVIEW) {
            revert InvalidReviewPeriod(terms.reviewPeriod, LONGEST_REVIEW);
        }
        _requireShare(terms.fixedShare);
        _requireShare(terms.validatorShare);
    }

    function _requireShare(uint256 share) private pure {
        if (share > Settlement.WHOLE) revert InvalidShare(share, Settlement.WHOLE);
    }

    function _requireRole(address account, Role needed) private view {
        if (role[account] != needed) revert WrongRole(account, role[account], needed);
    }

    function _requireCaller(address allowed) private view {
        if (msg.sender != allowed) revert NotAllowed(msg.sender, allowed);
    }

    function _requireStatus(bytes32 id, Training storage t, Status needed) private view {
        if (t.status != needed) revert WrongStatus(id, t.status, needed);
    }

    function _requireNotAfter(uint256 deadline) private view {
        // slither-disable-next-line timestamp -- see _requireValid
        if (block.timestamp > deadline) revert TooLate(deadline, block.timestamp);
    }

    function _requireAfter(uint256 deadline) private view {
        // slither-disable-next-line timestamp -- see _requireValid
        if (block.timestamp <= deadline) revert TooEarly(deadline, block.timestamp);
    }

    function _requireLength(string memory field, uint256 length, uint256 needed) private pure {
        if (length != needed) revert WrongLength(field, length, needed);
    }

    function _slice(address[] memory list, uint256 from, uint256 to) private pure returns (address[] memory part) {
        part = new address[](to - from);
        for (uint256 i = from; i < to; ++i) {
            part[i - from] = list[i];
        }
    }
}
