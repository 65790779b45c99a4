// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/**
 * @title A marketplace for models trained on rows that never leave their owners
 * @notice A buyer orders a training and pays for it, data owners accept it, an aggregator runs it, and
 * the contract pays everybody by what the model gained. Money that enters belongs to one training (its
 * escrow or its bond) until it becomes the credit of one account, which that account withdraws itself.
 *
 * Units: shares are integers in 1e-18 units (1e18 is the whole). MSEs and contributions are integers in
 * 1e-18 units of the squared scaled target. Times are unix seconds, money is wei. A training's id is a
 * UUID, its 16 bytes left-aligned.
 */
interface IMarketplace {
    /// @notice What an account may do. An account has one role, for ever.
    enum Role {
        NONE,
        DATA_OWNER,
        MODEL_BUYER,
        FEDERATED_AGGREGATOR,
        ARBITER
    }

    /// @notice Where a training stands; `Marketplace` holds the table of allowed transitions.
    enum Status {
        NONE,
        OPEN,
        CLOSED,
        TRAINING,
        REPORTED,
        DISPUTED,
        FINISHED,
        CANCELLED,
        FAILED,
        EXPIRED
    }

    /// @notice What an arbiter can decide.
    enum Outcome {
        AS_REPORTED,
        CORRECTED,
        REFUND
    }

    /**
     * @notice What a buyer orders, and what everybody who accepts agrees to.
     * @param arbiter Who decides a dispute.
     * @param wantedOwners Number of data owners at which joining may be closed before its deadline.
     * @param minimumOwners Number of data owners without which there is no training.
     * @param joinDeadline Last second in which an owner may accept.
     * @param trainingDeadline Last second in which the aggregator may report.
     * @param reviewPeriod Seconds in which a reported result may be disputed.
     * @param fixedShare Part of the trainers' money that is paid whatever the improvement.
     * @param validatorShare Part of the owners that become validators.
     * @param orderHash Hash of the requirements and hyper-parameters.
     */
    struct Terms {
        address arbiter;
        uint16 wantedOwners;
        uint16 minimumOwners;
        uint40 joinDeadline;
        uint40 trainingDeadline;
        uint32 reviewPeriod;
        uint64 fixedShare;
        uint64 validatorShare;
        bytes32 orderHash;
    }

    /**
     * @notice How a training went.
     * @param iterations Rounds that were run.
     * @param initialMse MSE of the zero model.
     * @param finalMse MSE of the delivered model.
     * @param partialMses Per trainer, the MSE that the others reach without it.
     * @param contributions Per trainer, its Shapley value, floored at 0.
     * @param trainersAnswered Per trainer, whether it answered in at least 80 % of its rounds.
     * @param validatorsAnswered The same per validator.
     * @param transcriptRoot Merkle root of the training's transcript.
     * @param modelHash Hash of the delivered model's ciphertexts.
     */
    struct Result {
        uint64 iterations;
        uint256 initialMse;
        uint256 finalMse;
        uint256[] partialMses;
        uint256[] contributions;
        bool[] trainersAnswered;
        bool[] validatorsAnswered;
        bytes32 transcriptRoot;
        bytes32 modelHash;
    }

    /**
     * @notice A data owner in one training.
     * @param account Its address.
     * @param rows Rows that it declared when it accepted.
     * @param share Its part of the reward for improvement; 0 for validators, and before the report.
     * @param answered Whether it is paid; false before the report.
     */
    struct Participant {
        address account;
        uint64 rows;
        uint64 share;
        bool answered;
    }

    /**
     * @notice Everything the contract holds about one training.
     * @param status Where it stands.
     * @param buyer Who ordered and paid.
     * @param aggregator Who runs it.
     * @param escrow What the buyer paid in; the contract holds it while the training lives.
     * @param bond What a dispute of it costs; the contract holds it while the training is disputed.
     * @param terms The order.
     * @param owners Who accepted. Once training, the first `trainers` of them train and the rest validate.
     * @param trainers Number of trainers, 0 before the start.
     * @param evaluations Number of the last saved iteration plus one, 0 before the first.
     * @param orderedBlock Block of the order: no event of this training is older.
     * @param closedBlock Block that closed joining, whose hash shuffles the owners.
     * @param digest keccak256(abi.encode(result)), 0 before the report.
     * @param improvement max(0, (initial − final) / initial) in 1e-18 units.
     * @param deadline End of the review, or, when disputed, of the arbiter's period; 0 before the report.
     * @param disputer Who disputed, if anybody.
     */
    struct TrainingView {
        Status status;
        address buyer;
        address aggregator;
        uint256 escrow;
        uint256 bond;
        Terms terms;
        Participant[] owners;
        uint256 trainers;
        uint256 evaluations;
        uint256 orderedBlock;
        uint256 closedBlock;
        bytes32 digest;
        uint256 improvement;
        uint256 deadline;
        address disputer;
    }

    /// @notice `account` took its role.
    event RoleRegistered(address indexed account, Role indexed role);
    /// @notice A buyer ordered a training; `modelType` is ASCII, left-aligned.
    event ModelOrdered(
        bytes32 indexed id, address indexed buyer, address indexed aggregator, bytes32 modelType, Terms terms
    );
    /// @notice The buyer paid `amount` into the training's escrow.
    event ModelCreationPayment(bytes32 indexed id, address indexed owner, uint256 amount);
    /// @notice A data owner takes part, with `rows` rows.
    event TrainingAccepted(bytes32 indexed id, address indexed owner, uint256 rows);
    /// @notice A data owner takes part no longer.
    event AcceptanceWithdrawn(bytes32 indexed id, address indexed owner);
    /// @notice The set of owners is frozen; the hash of `closedBlock` will shuffle it.
    event JoiningClosed(bytes32 indexed id, uint256 closedBlock);
    /// @notice The roles are drawn.
    event TrainingStarted(bytes32 indexed id, address[] trainers, address[] validators);
    /// @notice The model after `iteration` rounds has this MSE.
    event MseSaved(bytes32 indexed id, uint256 iteration, uint256 mse);
    /// @notice The aggregator reported.
    event ResultReported(bytes32 indexed id, bytes32 digest, Result result);
    /// @notice Somebody disagrees with what was reported.
    event ResultDisputed(bytes32 indexed id, address indexed disputer, bytes32 evidenceHash, uint256 bond);
    /// @notice The arbiter decided.
    event DisputeResolved(bytes32 indexed id, address indexed arbiter, Outcome outcome);
    /// @notice The arbiter put this result in place of the reported one.
    event ResultCorrected(bytes32 indexed id, bytes32 digest, Result result);
    /// @notice Everybody was paid by the training's result.
    event TrainingFinished(bytes32 indexed id);
    /// @notice The order was taken back, or did not find its owners.
    event TrainingCancelled(bytes32 indexed id);
    /// @notice The aggregator gave up.
    event TrainingFailed(bytes32 indexed id, string reason);
    /// @notice Nobody reported in time.
    event TrainingExpired(bytes32 indexed id);
    /// @notice A trainer earned `amount`.
    event ContributionPayment(bytes32 indexed id, address indexed receiver, uint256 amount);
    /// @notice A validator earned `amount`.
    event ValidationPayment(bytes32 indexed id, address indexed receiver, uint256 amount);
    /// @notice The aggregator earned `amount`.
    event OrchestrationPayment(bytes32 indexed id, address indexed receiver, uint256 amount);
    /// @notice The buyer got `amount` of its escrow back.
    event ModelBuyerReturnPayment(bytes32 indexed id, address indexed receiver, uint256 amount);
    /// @notice The bond of a dispute went to `receiver`: its disputer, or the arbiter.
    event BondPayment(bytes32 indexed id, address indexed receiver, uint256 amount);
    /// @notice `account` withdrew its credit.
    event CreditWithdrawn(address indexed account, uint256 amount);

    /// @notice No account can take this role.
    error InvalidRole(Role role);
    /// @notice The account has a role already.
    error AlreadyRegistered(address account, Role role);
    /// @notice The account needs another role for this.
    error WrongRole(address account, Role role, Role needed);
    /// @notice Only `allowed` may do this.
    error NotAllowed(address caller, address allowed);
    /// @notice The caller has no part in the training.
    error NotParticipant(bytes32 id, address caller);
    /// @notice A training with this id exists.
    error IdTaken(bytes32 id);
    /// @notice The payment is nothing, or more than `most`.
    error InvalidEscrow(uint256 value, uint256 most);
    /// @notice The numbers of owners must satisfy least <= minimum <= wanted <= most.
    error InvalidOwnerCounts(uint256 minimum, uint256 wanted, uint256 least, uint256 most);
    /// @notice The deadlines must satisfy time < join < training <= latest.
    error InvalidDeadlines(uint256 join, uint256 training, uint256 time, uint256 latest);
    /// @notice The review period must be between 1 and `longest` seconds.
    error InvalidReviewPeriod(uint256 period, uint256 longest);
    /// @notice A share is at most `whole`.
    error InvalidShare(uint256 share, uint256 whole);
    /// @notice The training must be in another status for this.
    error WrongStatus(bytes32 id, Status status, Status needed);
    /// @notice No training goes from `status` to `next`.
    error InvalidTransition(bytes32 id, Status status, Status next);
    /// @notice An owner takes part with at least one row.
    error NoRows();
    /// @notice The owner has accepted already.
    error AlreadyAccepted(bytes32 id, address owner);
    /// @notice As many owners as the order wants have accepted.
    error EnoughOwners(bytes32 id, uint256 wanted);
    /// @notice Fewer owners have accepted than the order needs.
    error TooFewOwners(bytes32 id, uint256 accepted, uint256 minimum);
    /// @notice `deadline` has passed.
    error TooLate(uint256 deadline, uint256 time);
    /// @notice `deadline` has not passed.
    error TooEarly(uint256 deadline, uint256 time);
    /// @notice The hash of `closedBlock` can still start the training.
    error AlreadyClosed(bytes32 id, uint256 closedBlock);
    /// @notice The hash of `closedBlock` is not known yet, or not any more.
    error BlockHashUnavailable(uint256 closedBlock, uint256 currentBlock);
    /// @notice The next iteration to save is at least `least`, and exactly 0 when it is the first.
    error WrongIteration(uint256 iteration, uint256 least);
    /// @notice A list of the result has the wrong length.
    error WrongLength(string field, uint256 length, uint256 needed);
    /// @notice The buyer computed another result than the one reported.
    error DigestMismatch(bytes32 reported, bytes32 computed);
    /// @notice A dispute costs exactly `needed`.
    error WrongBond(uint256 value, uint256 needed);
    /// @notice The account has no credit.
    error NothingToWithdraw(address account);

    /**
     * @notice Take a role, once and for ever.
     * @param newRole Any but NONE.
     */
    function register(Role newRole) external;

    /**
     * @notice Order a training and pay for it, as a buyer.
     * @param id The training's UUID, left-aligned.
     * @param modelType Kind of model, ASCII, left-aligned.
     * @param aggregator A registered aggregator, who will run it.
     * @param terms The order.
     */
    function newModel(bytes32 id, bytes32 modelType, address aggregator, Terms calldata terms) external payable;

    /**
     * @notice Take an order back: by its buyer while nobody has accepted; by anyone once the join
     * deadline has passed without the minimum, or a further day without anybody closing. Full refund.
     * @param id The training.
     */
    function cancel(bytes32 id) external;

    /**
     * @notice Take part, as a data owner.
     * @param id The training.
     * @param rows Rows that the owner trains or validates on.
     */
    function acceptTraining(bytes32 id, uint64 rows) external;

    /**
     * @notice Take no part after all, while joining is open.
     * @param id The training.
     */
    function withdrawAcceptance(bytes32 id) external;

    /**
     * @notice Freeze the set of owners, as the aggregator: when the wanted number has accepted, or after
     * the join deadline with at least the minimum. Again, when the start came too late.
     * @param id The training.
     */
    function closeJoining(bytes32 id) external;

    /**
     * @notice Draw trainers and validators with the hash of the block that closed joining, as the
     * aggregator, in one of the 256 blocks after it.
     * @param id The training.
     */
    function startTraining(bytes32 id) external;

    /**
     * @notice Record the MSE of an evaluated iteration, as the aggregator.
     * @param id The training.
     * @param iteration Rounds run so far; 0 first (the zero model), then strictly increasing.
     * @param mse The MSE.
     */
    function saveMse(bytes32 id, uint32 iteration, uint256 mse) external;

    /**
     * @notice Report how the training went, as the aggregator, before the training deadline.
     * @param id The training.
     * @param result Its lists in the contract's order of trainers and validators.
     */
    function reportResult(bytes32 id, Result calldata result) external;

    /**
     * @notice Confirm the reported result, as the buyer, and pay everybody.
     * @param id The training.
     * @param digest keccak256(abi.encode(result)) as the buyer computed it.
     */
    function finishModelTraining(bytes32 id, bytes32 digest) external;

    /**
     * @notice Dispute the reported result within the review period, as the buyer or an owner of the
     * training, with the training's bond.
     * @param id The training.
     * @param evidenceHash Hash of what the arbiter will be shown.
     */
    function disputeResult(bytes32 id, bytes32 evidenceHash) external payable;

    /**
     * @notice Decide a dispute, as the arbiter. The bond goes back unless the report stands; then it is
     * the arbiter's.
     * @param id The training.
     * @param outcome The decision.
     * @param corrected The result to pay by when the outcome is CORRECTED; ignored otherwise.
     */
    function resolve(bytes32 id, Outcome outcome, Result calldata corrected) external;

    /**
     * @notice Pay by the reported result when its review has passed without a word, or when it was
     * disputed and the arbiter stayed silent (the bond then goes back). By anyone.
     * @param id The training.
     */
    function finalize(bytes32 id) external;

    /**
     * @notice Give a training up, as the aggregator. Full refund.
     * @param id The training.
     * @param reason Why, for everybody to read.
     */
    function abortTraining(bytes32 id, string calldata reason) external;

    /**
     * @notice End a training whose deadline passed without a report. Full refund. By anyone.
     * @param id The training.
     */
    function expire(bytes32 id) external;

    /// @notice Withdraw the caller's whole credit.
    function withdraw() external;

    /**
     * @notice The role of an account.
     * @param account Any address.
     * @return NONE when it has not registered.
     */
    function role(address account) external view returns (Role);

    /**
     * @notice What an account can withdraw.
     * @param account Any address.
     * @return Wei.
     */
    function credit(address account) external view returns (uint256);

    /**
     * @notice Everything the contract holds about one training.
     * @param id The training.
     * @return Status NONE and zeros when there is none.
     */
    function training(bytes32 id) external view returns (TrainingView memory);
}
