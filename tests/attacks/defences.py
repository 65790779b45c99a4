"""Every attack, what its attacker sees, what stands in its way, and the test that fails without that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """A text in a file, there exactly once, and what takes its place."""

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Return the text after the change."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times: {self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Defence:
    """A row of docs/security-tests.md."""

    attack: str
    seen: str
    function: str
    without: str
    edits: tuple[Edit, ...]
    test: str

    @property
    def file(self) -> str:
        """Where the defence is, or its first part."""
        return self.edits[0].file


CONTRACT = "contracts/Marketplace.sol"
ATTACKS = "tests/attacks"
PAGES = "tests/unit/pages"
MOMENTS = "tests/unit/model_buyer/test_standardisation.py"

DEFENCES: tuple[Defence, ...] = (
    Defence(
        "An outsider, a registered owner, the buyer or another training's aggregator asks an owner for gradients or"
        " metrics, under its own key or about its own weights",
        "403; 401 unsigned",
        "RequestVerifier.require",
        "any account's signature will do",
        (
            Edit(
                "commons/http/request_signing.py",
                "        if signer.lower() not in {address.lower() for address in addresses}:\n",
                "        if False:\n",
            ),
        ),
        f"{ATTACKS}/test_questions.py::test_no_owner_gives_gradients_or_metrics_to_anybody_but_its_trainings_aggregator",
    ),
    Defence(
        "An outsider offers an owner its own key for a training of somebody else's",
        "409; 403 in the buyer's name",
        "Participation.offer",
        "a request need not be what is on chain, nor come from its aggregator",
        (
            Edit("data_owner/participation.py", "        if found != claimed:\n", "        if False:\n"),
            Edit(
                "data_owner/participation.py",
                "        if sender.lower() != on_chain.aggregator.lower():\n",
                "        if False:\n",
            ),
        ),
        f"{ATTACKS}/test_questions.py::test_no_owner_takes_another_key_for_a_training_that_it_knows",
    ),
    Defence(
        "A signed request is replayed",
        "401",
        "Nonces.use",
        "nonces are not remembered",
        (Edit("commons/http/nonces.py", "            if (address, nonce) in used:\n", "            if False:\n"),),
        f"{ATTACKS}/test_replays.py::test_a_signed_request_is_answered_once",
    ),
    Defence(
        "A signed request is replayed to a service that was killed in between",
        "503: it may be signed again",
        "Nonces.__init__",
        "a service that starts takes what comes",
        (Edit("commons/http/nonces.py", "self._oldest = self._latest + 1", "self._oldest = 0"),),
        f"{ATTACKS}/test_replays.py::test_a_signed_request_is_answered_once_although_the_service_was_killed",
    ),
    Defence(
        "A signed request is kept for later",
        "401",
        "Nonces.use",
        "requests count for ever",
        (
            Edit("commons/http/nonces.py", "        if created < now - MAX_AGE_S:\n", "        if False:\n"),
            Edit("commons/http/nonces.py", "            if created < self._oldest:\n", "            if False:\n"),
        ),
        f"{ATTACKS}/test_replays.py::test_a_signed_request_is_of_now",
    ),
    Defence(
        "A signed request is re-targeted",
        "401",
        "RequestVerifier._target",
        "what a request says of its host is believed",
        (
            Edit(
                "commons/http/request_signing.py",
                "        return target_uri(self._public_url + quote(request.path, safe=_PATH_SAFE)"
                ' + (query and f"?{query}"))\n',
                "        return target_uri(request.url)\n",
            ),
        ),
        f"{ATTACKS}/test_replays.py::test_a_signed_request_is_answered_by_who_it_is_for",
    ),
    Defence(
        "A signed request is truncated",
        "401",
        "RequestVerifier.caller",
        "the digest is not compared with the body",
        (
            Edit(
                "commons/http/request_signing.py",
                "            if signed.digest != actual:\n",
                "            if False:\n",
            ),
        ),
        f"{ATTACKS}/test_replays.py::test_a_signed_request_is_not_truncated",
    ),
    Defence(
        "A training is ended by a refusal in a peer's place",
        "none: the call is made again",
        "_require_refused_by",
        "whoever answers may refuse",
        (
            Edit(
                "commons/http/peer.py",
                "                _require_refused_by(sender, response)\n",
                "                pass\n",
            ),
        ),
        "tests/unit/http/test_refusal_signing.py::test_refusal_of_another_account_does_not",
    ),
    Defence(
        "A request is changed on the way, so that the peer itself refuses it",
        "a refusal without a signature, which ends nothing",
        "RequestVerifier.caller",
        "whatever is refused is refused with a signature",
        (Edit("commons/http/request_signing.py", "del request.environ[_ANSWERED]", "signed.item"),),
        "tests/unit/http/test_refusal_signing.py::test_refusal_of_what_was_changed_on_the_way_is_not_signed",
    ),
    Defence(
        "A signed message is used as one of another kind",
        "403",
        "require_sender",
        "whoever sends a request need not have signed its message",
        (
            Edit(
                "commons/http/signatures.py",
                "        require_sender(question, sender)\n        return question",
                "        return question",
            ),
        ),
        f"{ATTACKS}/test_replays.py::test_a_message_is_not_taken_for_one_of_another_kind",
    ),
    Defence(
        "The aggregator asks the buyer to open a total that the validators did not co-sign",
        "409",
        "Answering.open",
        "co-signatures are not checked",
        (
            Edit(
                "model_buyer/answering.py", "            self._require_cosigned(desk, question, models, products)\n", ""
            ),
        ),
        f"{ATTACKS}/test_questions.py::test_no_sum_is_opened_that_its_validators_did_not_sign",
    ),
    Defence(
        "The aggregator asks the buyer to open moments that their trainers did not co-sign",
        "409",
        "Trainers.require_cosigned",
        "co-signatures are not checked",
        (
            Edit(
                "commons/protocol/moments.py",
                "        require_cosigned(signed, totals.cosignatures, totals.trainers, self.addresses, self.domain,"
                " MomentsStatement)\n",
                "",
            ),
        ),
        f"{MOMENTS}::test_what_is_not_signed_by_three_trainers_stays_closed_and_another_may_follow",
    ),
    Defence(
        "The aggregator asks the buyer to open the moments of two trainers",
        "422",
        "MINIMUM_TRAINERS",
        "two are enough",
        (Edit("commons/protocol/moments.py", "MINIMUM_TRAINERS = 3\n", "MINIMUM_TRAINERS = 2\n"),),
        f"{MOMENTS}::test_what_is_not_signed_by_three_trainers_stays_closed_and_another_may_follow",
    ),
    Defence(
        "The aggregator and a trainer ask the buyer to open something else as moments",
        "409, once",
        "Answering.open_moments",
        "sums need not be those of any rows",
        (
            Edit(
                "model_buyer/answering.py",
                "                trainers.scaling([opening.total for opening in openings], question.trainers)\n",
                "                pass\n",
            ),
        ),
        f"{MOMENTS}::test_sums_that_no_rows_have_stay_closed_and_nothing_else_is_looked_at_then",
    ),
    Defence(
        "The aggregator tells an owner moments that nobody opened",
        "409",
        "Answering.standardise",
        "their evidence is not looked at",
        (Edit("data_owner/answering.py", "            trainers.told(told)\n            return", "            return"),),
        "tests/unit/data_owner/test_standardisation.py::test_moments_whose_evidence_does_not_hold_are_not_kept",
    ),
    Defence(
        "The aggregator and three trainers tell an owner moments that they opened without the buyer",
        "409",
        "Trainers.told",
        "the buyer need not have signed them",
        (
            Edit(
                "commons/protocol/moments.py",
                "        Signed(content=said.pack(), signature=moments.signature).verified("
                "Openings, self.domain, self.buyer, asked)\n",
                "",
            ),
        ),
        "tests/unit/protocol/test_moments.py::test_owner_uses_no_moments_whose_evidence_does_not_hold",
    ),
    Defence(
        "The aggregator asks the buyer to decrypt weights, by any route",
        "401, 403, 404, 405, 409, 415 or 422",
        "Access.protect",
        "routes for users are for everybody",
        (
            Edit(
                "commons/users/access.py",
                "            elif wanted is Audience.USERS:\n                self.user()\n",
                "",
            ),
        ),
        f"{ATTACKS}/test_questions.py::test_no_route_of_the_buyer_decrypts_weights",
    ),
    Defence(
        "The aggregator asks the buyer a second question of a round that was answered",
        "409",
        "Journal.once",
        "the digest of the first question is not compared",
        (
            Edit(
                "commons/journal.py",
                "        if entry.question_digest != hashlib.sha256(question).digest():\n",
                "        if False:\n",
            ),
        ),
        "tests/privacy/test_refusals.py::TestBuyer::test_divides_no_other_round",
    ),
    Defence(
        "The final model is asked for, or delivered, before the result is on chain",
        "409; 403 by anybody but the aggregator",
        "Settlement.receive",
        "deliveries are taken at any time",
        (
            Edit(
                "model_buyer/settlement.py",
                "if on_chain.status not in (ChainStatus.REPORTED, ChainStatus.DISPUTED, ChainStatus.FINISHED):\n",
                "if False:\n",
            ),
        ),
        f"{ATTACKS}/test_questions.py::test_the_final_model_is_not_there_before_the_result_is_on_chain",
    ),
    Defence(
        "The buyer asks the aggregator for the transcript, or an owner's ciphertext in it",
        "403; 401 unsigned",
        "blueprint.transcript",
        "whoever signs is shown it",
        (
            Edit(
                "federated_aggregator/api/models.py",
                "        require_arbiter(chain.marketplace(), storage.training(training_id).id, caller)\n",
                "",
            ),
        ),
        f"{ATTACKS}/test_acceptance.py::test_the_aggregator_tells_the_buyer_no_ciphertext_no_mask_and_no_transcript",
    ),
    Defence(
        "The buyer asks an owner for its answers",
        "403",
        "Reviewing.evidence",
        "whoever signs is shown them",
        (
            Edit(
                "data_owner/reviewing.py",
                "        require_arbiter(self._chain.marketplace(), training_id, caller)\n",
                "",
            ),
        ),
        f"{ATTACKS}/test_acceptance.py::test_owners_tell_the_buyer_nothing_of_what_they_answered",
    ),
    Defence(
        "The buyer reads an unmasked round from what it is asked to divide",
        "numbers that are uniform",
        "mask",
        "the masks of a round are constant",
        (
            Edit(
                "commons/protocol/round.py",
                "    masks = draw_masks(len(aggregate))\n",
                "    masks = [1 << 120] * len(aggregate)\n",
            ),
        ),
        "tests/privacy/test_who_learns_what.py::TestBuyer::test_masked_numbers_look_uniform_and_never_recur",
    ),
    Defence(
        "Anyone patches the contract's address or the aggregator's account",
        "401; 403 for viewers",
        "Access.protect",
        "what is for operators is for every user",
        (
            Edit(
                "commons/users/access.py",
                "            if wanted is Audience.OPERATORS:\n                self.operator()\n",
                "            if wanted is Audience.OPERATORS:\n                self.user()\n",
            ),
        ),
        f"{ATTACKS}/test_users.py::test_nobody_patches_the_contract_or_the_aggregators_account",
    ),
    Defence(
        "One owner accepts five times",
        "200 once, then 409",
        "acceptTraining",
        "neither the contract nor the service counts",
        (
            Edit(CONTRACT, "        if (own.position != 0) revert AlreadyAccepted(id, msg.sender);\n", ""),
            Edit(
                "data_owner/participation.py",
                'raise Conflict(f"training {training_id} is {training.status}: it cannot be accepted (again)")\n',
                "pass\n",
            ),
            Edit(
                "data_owner/storage.py",
                'raise Conflict(f"training {training_id} is {training.status}: it cannot be accepted (again)")\n',
                "pass\n",
            ),
        ),
        f"{ATTACKS}/test_acceptance.py::test_an_owner_accepts_once_however_often_it_is_told_to",
    ),
    Defence(
        "A sixth accepts after the start",
        "409; the contract reverts",
        "acceptTraining",
        "the contract takes acceptances at any time, and any number",
        (
            Edit(
                CONTRACT,
                "        _requireStatus(id, t, Status.OPEN);\n        _requireRole(msg.sender, Role.DATA_OWNER);\n",
                "        _requireRole(msg.sender, Role.DATA_OWNER);\n",
            ),
            Edit(
                CONTRACT,
                "        if (t.owners.length == t.wantedOwners) revert EnoughOwners(id, t.wantedOwners);\n",
                "",
            ),
        ),
        f"{ATTACKS}/test_acceptance.py::test_nobody_accepts_after_the_start",
    ),
    Defence(
        "An order whose payment reverted is trained anyway",
        "409",
        "Orchestration.take_order",
        "an order need not be what is on chain",
        (Edit("federated_aggregator/orchestration.py", "        if found != claimed:\n", "        if False:\n"),),
        f"{ATTACKS}/test_orders.py::test_an_order_whose_payment_reverted_is_not_trained",
    ),
    Defence(
        "An order that was never paid is trained",
        "409",
        "Orchestration.take_order",
        "an order need not be on chain at all",
        (
            Edit("federated_aggregator/orchestration.py", "        if found != claimed:\n", "        if False:\n"),
            Edit(
                "federated_aggregator/orchestration.py",
                "        if on_chain.status == ChainStatus.NONE:\n",
                "        if False:\n",
            ),
        ),
        f"{ATTACKS}/test_orders.py::test_an_order_that_was_never_paid_is_not_trained",
    ),
    Defence(
        "An upload is called `../`, or by another path",
        "422",
        "receive",
        "names may be paths",
        (
            Edit(
                "commons/http/uploads.py",
                'if name in (".", "..") or name != PurePosixPath(name).name or name != PureWindowsPath(name).name:\n',
                "if False:\n",
            ),
        ),
        f"{ATTACKS}/test_uploads.py::test_a_file_name_leads_nowhere",
    ),
    Defence(
        "An upload has the name of a link",
        "201, and the link is not followed",
        "receive",
        "a link of the name that a file brings is followed",
        (
            Edit(
                "commons/http/uploads.py",
                "os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)",
                "os.open(path.with_name(name) if path.with_name(name).is_symlink() else path,"
                " os.O_WRONLY | os.O_CREAT, 0o600)",
            ),
        ),
        f"{ATTACKS}/test_uploads.py::test_the_name_of_a_link_is_not_followed",
    ),
    Defence(
        "A body of 2 GB",
        "413 before it is sent; 401 for nobody",
        "create",
        "a body may have any length",
        (Edit("commons/http/application.py", '    app.config["MAX_CONTENT_LENGTH"] = JSON_BODY_LIMIT\n', ""),),
        f"{ATTACKS}/test_uploads.py::test_two_gigabytes_are_refused_before_they_are_sent",
    ),
    Defence(
        "A file of 2 GB",
        "413 before it is sent",
        "receive",
        "an upload may have any length",
        (
            Edit(
                "commons/http/uploads.py",
                "    request.max_content_length = limit_bytes\n",
                "    request.max_content_length = None\n",
            ),
        ),
        f"{ATTACKS}/test_uploads.py::test_two_gigabytes_are_refused_before_they_are_sent",
    ),
    Defence(
        "A decompression bomb in Parquet",
        "422 at once",
        "_decode_parquet",
        "a file may decompress to anything",
        (Edit("commons/tables/decoding.py", "    if rows * len(columns) > most_values:\n", "    if False:\n"),),
        "tests/unit/tables/test_isolated.py::test_bomb_with_more_numbers_than_allowed_is_refused_at_once",
    ),
    Defence(
        "SQL in a string",
        "the string, or 401, 404, 422",
        "Users.by_email",
        "a query is put together from text",
        (
            Edit(
                "commons/users/storage.py",
                "select(User).where(User.email == folded(email))",
                'select(User).where(__import__("sqlalchemy").text("users.email = \'" + email + "\'"))',
            ),
        ),
        f"{ATTACKS}/test_injection.py::test_nobody_logs_in_with_sql",
    ),
    Defence(
        "A template in a string",
        "the string, or 404, 409, 422",
        "problem",
        "what an error says is rendered",
        (
            Edit(
                "commons/http/problems.py",
                "detail=detail, errors=list(errors))\n",
                'detail=__import__("flask").render_template_string(detail), errors=list(errors))\n',
            ),
        ),
        f"{ATTACKS}/test_injection.py::test_a_users_name_and_address_are_text",
    ),
    Defence(
        "Another user's model is read",
        "404, for operators as well",
        "Access.require_own",
        "whoever has logged in owns everything",
        (Edit("commons/users/access.py", "        if user.id != owner_id:\n", "        if False:\n"),),
        f"{ATTACKS}/test_users.py::test_another_users_model_is_not_read",
    ),
    Defence(
        "Another user's model is changed or deleted",
        "404; 403 for viewers",
        "Access.require_own",
        "whoever has logged in owns everything",
        (Edit("commons/users/access.py", "        if user.id != owner_id:\n", "        if False:\n"),),
        f"{ATTACKS}/test_users.py::test_another_users_model_is_neither_changed_nor_deleted",
    ),
    Defence(
        "Another user's file is used or deleted",
        "404",
        "_own_file",
        "files are everybody's",
        (
            Edit(
                "model_buyer/predictions.py",
                "    if file is None or file.user_id != user_id:\n",
                "    if file is None:\n",
            ),
        ),
        f"{ATTACKS}/test_users.py::test_another_users_file_is_neither_read_nor_deleted",
    ),
    Defence(
        "Another site, or another port of this host, sends a form of a page",
        "403",
        "Sessions.require_own_page",
        "any page may send the forms of this one",
        (
            Edit(
                "commons/users/sessions.py",
                '        if site != "same-origin" or origin not in own:\n',
                "        if False:\n",
            ),
        ),
        f"{PAGES}/test_sessions.py::test_no_form_of_another_site_counts_on_any_page",
    ),
    Defence(
        "A page calls the API with the cookie of who is logged in",
        "401",
        "Access._found",
        "a cookie counts wherever there is no header",
        (
            Edit(
                "commons/users/access.py",
                "self._sessions.secret() if self.on_page() else _bearer()",
                "self._sessions.secret() if self._sessions.cookie in request.cookies else _bearer()",
            ),
        ),
        f"{PAGES}/test_sessions.py::test_cookie_counts_nowhere_in_the_api",
    ),
    Defence(
        "Another site, or a script, uses the cookie",
        "no cookie",
        "Sessions.set_cookie",
        "every site's requests bring it, and scripts read it",
        (
            Edit(
                "commons/users/sessions.py",
                'httponly=True, samesite="Strict"',
                'httponly=False, samesite="None"',
            ),
        ),
        f"{PAGES}/test_sessions.py::test_cookie_is_out_of_reach_of_scripts_and_other_sites",
    ),
    Defence(
        "Whoever owns a name gives it the address of a service without users, and signs up from its page there",
        "403",
        "make_user",
        "pages make the first user by whatever name",
        (Edit("commons/users/api.py", "    accounts.sessions.require_fixed_name()\n", ""),),
        f"{PAGES}/test_sessions.py::test_a_name_that_was_given_this_address_makes_nobody_the_first_user",
    ),
    Defence(
        "A link to the login page leads to another site",
        "the start page",
        "_local",
        "whatever a link says comes next",
        (
            Edit(
                "commons/pages/site.py",
                '    return target if plain and target is not None else "/"\n',
                '    return target or "/"\n',
            ),
        ),
        f"{PAGES}/test_sessions.py::test_login_leads_nowhere_else",
    ),
    Defence(
        "A page is framed, or made to run a script of somebody else's",
        "neither, by its Content-Security-Policy",
        "CONTENT_POLICY",
        "pages may be in frames, and run what is written into them",
        (
            Edit("commons/pages/site.py", "        \"script-src 'self'\",\n", '        "script-src *",\n'),
            Edit("commons/pages/site.py", "        \"frame-ancestors 'none'\",\n", ""),
        ),
        f"{PAGES}/test_site.py::test_pages_bring_the_strict_policy_and_nothing_that_it_would_block",
    ),
    Defence(
        "Markup in names, reasons, columns, and what is sent",
        "text",
        "Site.register",
        "templates are not escaped",
        (
            Edit(
                "commons/pages/site.py",
                "        app.jinja_env.trim_blocks = ",
                "        app.jinja_env.autoescape = False\n        app.jinja_env.trim_blocks = ",
            ),
        ),
        f"{PAGES}/test_site.py::test_what_others_write_is_text",
    ),
    Defence(
        "Another user's training is followed",
        "404",
        "blueprint.events",
        "streams are for everybody",
        (Edit("model_buyer/pages.py", "        orders.own(model_id)\n\n        def render", "        def render"),),
        f"{PAGES}/test_sessions.py::test_other_peoples_trainings_are_not_there",
    ),
    Defence(
        "A training is followed after the login ended",
        "the end of the stream",
        "Streams._logged_in",
        "streams look once who is logged in",
        (Edit("commons/pages/streams.py", "            self._still()\n", "            pass\n"),),
        f"{PAGES}/test_sessions.py::test_logging_out_ends_the_streams_that_are_open",
    ),
    Defence(
        "A token is guessed",
        "401",
        "Tokens.find",
        "only what lists show of a token is compared",
        (
            Edit(
                "commons/users/tokens.py",
                ".where(Token.digest == _digest(secret))",
                ".where(Token.prefix == secret[:SHOWN]).limit(1)",
            ),
        ),
        f"{ATTACKS}/test_users.py::test_a_token_that_was_guessed_counts_nowhere",
    ),
    Defence(
        "A token has expired",
        "401",
        "Tokens.find",
        "tokens count for ever",
        (Edit("commons/users/tokens.py", "found.Token.expires <= moment or ", ""),),
        f"{ATTACKS}/test_users.py::test_a_token_that_has_expired_counts_no_more",
    ),
    Defence(
        "A token of another service",
        "401",
        "Tokens.find",
        "a token of the right form is believed",
        (Edit("commons/users/tokens.py", ".where(Token.digest == _digest(secret))", ".limit(1)"),),
        f"{ATTACKS}/test_users.py::test_a_token_of_another_service_counts_nowhere_else",
    ),
    Defence(
        "A role is self-granted on the contract",
        "`AlreadyRegistered`",
        "register",
        "a second role takes the place of the first",
        (
            Edit(
                CONTRACT,
                "        if (role[msg.sender] != Role.NONE) revert AlreadyRegistered(msg.sender, role[msg.sender]);\n",
                "",
            ),
        ),
        "tests/contract/test_registration.py::test_no_account_registers_twice",
    ),
    Defence(
        "A role is self-granted at a service",
        "403",
        "blueprint.create",
        "who registers says what it is",
        (
            Edit(
                "commons/users/api.py",
                'raise NotAuthorised("roles are for operators to give")\n',
                "pass\n",
            ),
        ),
        "tests/unit/users/test_accounts.py::test_nobody_gives_itself_a_role",
    ),
    Defence(
        "Another's escrow is touched, by any function",
        "a revert",
        "finishModelTraining",
        "anybody may confirm a result",
        (Edit(CONTRACT, "        _requireCaller(t.buyer);\n", ""),),
        f"{ATTACKS}/test_contract.py::test_another_ones_escrow_is_moved_by_no_function",
    ),
    Defence(
        "The arbiter's part is played by somebody else",
        "`NotAllowed`",
        "resolve",
        "anybody may decide a dispute",
        (Edit(CONTRACT, "        _requireCaller(t.arbiter);\n", ""),),
        f"{ATTACKS}/test_contract.py::test_another_ones_escrow_is_moved_by_no_function",
    ),
    Defence(
        "A training is settled twice",
        "`InvalidTransition`",
        "_follows",
        "from Finished leads a way to Finished",
        (
            Edit(
                CONTRACT,
                "        return status == Status.DISPUTED && next == Status.FINISHED;\n",
                "        return next == Status.FINISHED;\n",
            ),
        ),
        "tests/contract/test_settling.py::test_the_buyer_confirms_the_result_and_everybody_is_paid_once",
    ),
    Defence(
        "A payee that is a contract reenters",
        "its second call reverts",
        "withdraw",
        "neither a guard, nor the credit at zero before ether leaves",
        (
            Edit(CONTRACT, "    function withdraw() external nonReentrant {\n", "    function withdraw() external {\n"),
            Edit(
                CONTRACT,
                "        credit[msg.sender] = 0;\n        emit CreditWithdrawn(msg.sender, amount);\n"
                "        Address.sendValue(payable(msg.sender), amount);\n",
                "        Address.sendValue(payable(msg.sender), amount);\n        credit[msg.sender] = 0;\n"
                "        emit CreditWithdrawn(msg.sender, amount);\n",
            ),
        ),
        "tests/contract/test_withdrawals.py::test_a_payee_that_reenters_is_paid_once",
    ),
    Defence(
        "A payee refuses ether",
        "its own withdrawal reverts, and nobody else's",
        "_settle",
        "payments are sent, not credited",
        (
            Edit(
                CONTRACT,
                "            credit[owner] += amount;\n",
                "            Address.sendValue(payable(owner), amount);\n",
            ),
        ),
        "tests/contract/test_withdrawals.py::test_a_payee_that_refuses_ether_hurts_nobody_else",
    ),
    Defence(
        "An order is overwritten",
        "`IdTaken`; 409 for who comes late",
        "newModel",
        "an id may be ordered again while it is open",
        (
            Edit(CONTRACT, "        if (t.status != Status.NONE) revert IdTaken(id);\n", ""),
            Edit(
                CONTRACT,
                "        if (status == Status.OPEN) return next == Status.CLOSED || next == Status.CANCELLED;\n",
                "        if (status == Status.OPEN) return next <= Status.CLOSED || next == Status.CANCELLED;\n",
            ),
        ),
        f"{ATTACKS}/test_contract.py::test_an_order_is_not_overwritten_by_who_overtakes_it_nor_by_who_follows",
    ),
    Defence(
        "An order is overtaken on its way into a block",
        "409, and nothing is paid",
        "newModel",
        "an id may be ordered again while it is open",
        (
            Edit(CONTRACT, "        if (t.status != Status.NONE) revert IdTaken(id);\n", ""),
            Edit(
                CONTRACT,
                "        if (status == Status.OPEN) return next == Status.CLOSED || next == Status.CANCELLED;\n",
                "        if (status == Status.OPEN) return next <= Status.CLOSED || next == Status.CANCELLED;\n",
            ),
        ),
        f"{ATTACKS}/test_orders.py::test_an_order_is_not_overwritten_and_who_comes_late_pays_nothing",
    ),
    Defence(
        "A block has the very second of a deadline",
        "the last second counts, the next one is `TooLate`",
        "_requireNotAfter",
        "the last second is too late",
        (
            Edit(
                CONTRACT,
                "        if (block.timestamp > deadline) revert",
                "        if (block.timestamp >= deadline) revert",
            ),
        ),
        "tests/contract/test_joining.py::test_owners_accept_up_to_the_last_second",
    ),
    Defence(
        "A block has the very second after which others may act",
        "`TooEarly` up to it",
        "_requireAfter",
        "others may act in the last second",
        (
            Edit(
                CONTRACT,
                "        if (block.timestamp <= deadline) revert",
                "        if (block.timestamp < deadline) revert",
            ),
        ),
        "tests/contract/test_settling.py::test_anyone_finalizes_when_the_review_has_passed_without_a_word",
    ),
    Defence(
        "An acceptance is overtaken",
        "`EnoughOwners` for who comes late",
        "acceptTraining",
        "more may accept than are wanted",
        (
            Edit(
                CONTRACT,
                "        if (t.owners.length == t.wantedOwners) revert EnoughOwners(id, t.wantedOwners);\n",
                "",
            ),
        ),
        f"{ATTACKS}/test_contract.py::test_who_overtakes_an_acceptance_takes_a_place_and_nothing_else",
    ),
    Defence(
        "An acceptance is copied by somebody without the role",
        "`WrongRole`",
        "acceptTraining",
        "anybody accepts",
        (Edit(CONTRACT, "        _requireRole(msg.sender, Role.DATA_OWNER);\n", ""),),
        f"{ATTACKS}/test_contract.py::test_an_acceptance_is_copied_in_nobodys_name",
    ),
    Defence(
        "The start is overtaken",
        "`NotAllowed`",
        "startTraining",
        "anybody starts",
        (
            Edit(
                CONTRACT,
                "        _move(id, t, Status.TRAINING);\n        _requireCaller(t.aggregator);\n",
                "        _move(id, t, Status.TRAINING);\n",
            ),
        ),
        f"{ATTACKS}/test_contract.py::test_nobody_starts_in_front_of_the_aggregator",
    ),
    Defence(
        "The start is put into the block whose hash draws the roles",
        "`BlockHashUnavailable`",
        "startTraining",
        "roles are drawn with no hash",
        (Edit(CONTRACT, "        if (entropy == 0) revert BlockHashUnavailable(t.closedBlock, block.number);\n", ""),),
        f"{ATTACKS}/test_contract.py::test_who_overtakes_the_closing_neither_joins_nor_leaves_behind_it",
    ),
    Defence(
        "A token is read from the database",
        "SHA-256 of it",
        "_digest",
        "tokens are kept as they are",
        (
            Edit(
                "commons/users/tokens.py",
                "    return hashlib.sha256(secret.encode()).digest()\n",
                "    return secret.encode()\n",
            ),
        ),
        f"{ATTACKS}/test_secrets.py::test_no_database_has_a_secret_in_clear",
    ),
    Defence(
        "A training's private key is read from the database",
        "a ciphertext under the vault's key",
        "Vault.seal",
        "keys are kept as they are",
        (
            Edit("model_buyer/vault.py", "        return self._fernet.encrypt(content)\n", "        return content\n"),
            Edit(
                "model_buyer/vault.py",
                "            return self._fernet.decrypt(sealed)\n",
                "            return sealed\n",
            ),
        ),
        f"{ATTACKS}/test_secrets.py::test_no_database_has_a_secret_in_clear",
    ),
    Defence(
        "A password is read from the database",
        "Argon2id of it",
        "Passwords.hash",
        "passwords are kept as they are",
        (
            Edit(
                "commons/users/passwords.py",
                "            return self._hasher.hash(normal)\n",
                "            return normal\n",
            ),
        ),
        "tests/unit/users/test_passwords.py::test_what_is_kept_is_salted_argon2id_of_owasps_strength",
    ),
    Defence(
        "An error repeats a secret that was in a body",
        "the field and the reason",
        "problems_of",
        "errors quote what they refuse",
        (
            Edit(
                "commons/protocol/messages.py",
                'item["msg"].removeprefix("Value error, ")),\n',
                'item["msg"].removeprefix("Value error, ")) + str(item.get("input")),\n',
            ),
            Edit(
                "commons/protocol/messages.py",
                "error.errors(include_url=False, include_input=False, include_context=False)",
                "error.errors(include_url=False, include_input=True, include_context=False)",
            ),
        ),
        f"{ATTACKS}/test_secrets.py::test_no_answer_has_a_secret",
    ),
    Defence(
        "A log shows the variables of what failed",
        "the error and its place",
        "configure_logging",
        "tracebacks have local variables",
        (
            Edit(
                "commons/http/application.py",
                "            structlog.processors.format_exc_info,",
                "            structlog.processors.ExceptionRenderer("
                "structlog.tracebacks.ExceptionDictTransformer(show_locals=True)),",
            ),
        ),
        "tests/unit/http/test_server.py::test_log_is_json_without_local_variables",
    ),
)
