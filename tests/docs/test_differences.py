"""Every line of "Different from AWS" in docs/local.md has a test that holds it."""

import ast
import re
from functools import cache

import pytest

from mayfly_testing.stack import ROOT

PAGE, SECTION = "docs/local.md", "Different from AWS"
UNIT, APPS, WIRE = "unit/local/test_local_", "integration/test_", "contract/test_"
#: The beginning of each line, and the tests that fail if it is no longer true.
HELD = {
    "Functions run on the Python of this machine": [
        f"{UNIT}differences.py::test_function_of_another_python_runs_with_a_note",
    ],
    "A function has at most 10 environments": [
        f"{UNIT}differences.py::test_function_has_ten_environments_or_its_reserved_concurrency",
        f"{UNIT}pool.py::test_no_more_environments_run_than_the_limit",
    ],
    "A queue's mapping runs at most two batches for each core": [
        f"{UNIT}differences.py::"
        "test_mapping_of_a_queue_runs_two_batches_for_each_core_and_five_at_most",
    ],
    "If a function is at its limit, requests wait": [
        f"{UNIT}pool.py::test_waiting_invocation_takes_the_first_environment_that_becomes_free",
        f"{APPS}misbehaving.py::test_one_environment_takes_one_event_at_a_time_and_the_rest_wait",
    ],
    "Callers share the cores of this machine": [
        f"{UNIT}shares.py::test_requests_of_one_caller_wait_for_each_other_in_their_order",
        f"{UNIT}shares.py::test_request_of_another_caller_waits_for_none_of_them",
    ],
    "All callers of the last second together": [
        f"{UNIT}shares.py::test_callers_that_are_active_at_the_same_time_share_the_cores",
        f"{UNIT}shares.py::test_each_caller_has_a_core_if_there_are_more_callers_than_cores",
        f"{UNIT}shares.py::"
        "test_caller_keeps_its_share_for_a_second_after_the_end_of_a_long_request",
    ],
    "A request that takes more than 0.1 s": [
        f"{UNIT}shares.py::test_request_that_waits_longer_than_work_takes_makes_room",
    ],
    "A caller that is alone holds at most 8 environments": [
        f"{UNIT}shares.py::test_caller_that_is_alone_holds_eight_environments_of_a_function",
        f"{UNIT}shares.py::test_callers_divide_the_environments_of_a_function",
    ],
    "The last free one is kept for a caller that holds none": [
        f"{UNIT}shares.py::test_long_polls_of_two_callers_leave_an_environment_to_a_third",
        f"{APPS}shares.py::test_long_polls_of_one_tenant_and_of_two_leave_room_for_another",
    ],
    "A request that has not had its turn": [
        f"{UNIT}integrations.py::test_request_without_a_turn_in_its_time_never_runs",
        f"{UNIT}integrations.py::test_request_whose_connection_ends_before_its_turn_never_runs",
    ],
    "One that has begun continues": [
        f"{UNIT}integrations.py::test_request_that_has_begun_continues_after_its_time",
        f"{UNIT}integrations.py::test_request_that_has_begun_continues_without_its_connection",
    ],
    "Callers are who the authorizer says": [
        f"{UNIT}differences.py::test_callers_with_the_same_context_share_and_others_do_not",
    ],
    "Requests to routes without an authorizer have no share": [
        f"{UNIT}differences.py::test_caller_of_a_route_without_an_authorizer_has_no_share",
    ],
    "A request may leave out the stage of an API": [
        f"{APPS}gateways.py::test_request_without_the_stage_gets_the_event_of_one_with_it",
    ],
    "If several times of a schedule pass": [
        f"{UNIT}clock.py::test_times_that_passed_in_an_outage_get_one_call",
    ],
    "`<aws.scheduler.attempt-number>`": [
        f"{UNIT}rules.py::test_input_of_a_schedule_has_its_context_attributes",
    ],
    "A function whose `CodeUri` is one Python file": [
        f"{UNIT}templates_as_written.py::test_code_that_is_one_python_file_is_its_folder",
    ],
    "All stages of an API call the functions": [
        f"{UNIT}apis.py::test_stage_variables_that_differ_or_are_missing_are_absent",
    ],
    "`X-Forwarded-Proto` is `http`": [
        f"{UNIT}http_api.py::"
        "test_event_has_the_headers_that_the_api_adds_and_not_those_of_the_connection",
    ],
    "JWT and Cognito authorizers take tokens of the local issuer": [
        f"{APPS}gateways.py::test_jwt_authorizer_takes_tokens_of_the_local_issuer",
        f"{APPS}gateways.py::test_jwt_authorizer_refuses_other_tokens",
        f"{APPS}gateways.py::test_cognito_authorizer_takes_tokens_of_the_local_issuer",
    ],
    "`$context.error.validationErrorString`": [
        f"{UNIT}gateways.py::test_gateway_response_says_what_is_wrong_with_a_body",
    ],
    "The `Content-Length` of a reply is dropped": [
        f"{UNIT}http_api.py::test_content_length_of_a_reply_is_that_of_its_body",
    ],
    "HTTP APIs and function URLs rename no header": [
        f"{UNIT}http_api.py::test_other_apis_rename_no_header_of_a_reply",
    ],
    "An API key is made if the template has none": [
        f"{UNIT}differences.py::test_api_key_is_made_if_the_template_has_none",
    ],
    "Quotas and throttling of usage plans": [
        f"{APPS}gateways.py::test_quota_of_a_usage_plan_is_not_applied",
        f"{APPS}gateways.py::test_resource_policy_of_a_rest_api_is_not_evaluated",
    ],
    "`SIGTERM` reaches a handler when its environment stops": [
        f"{WIRE}runtime_api.py::"
        "test_sigterm_reaches_an_idle_handler_and_the_rest_of_the_group_is_killed",
    ],
    "A handler's process that leaves its session": [
        f"{WIRE}runtime_api.py::"
        "test_process_that_leaves_its_session_is_neither_frozen_nor_found_again",
    ],
    "`LAMBDA_TASK_ROOT`, the current folder and the paths in tracebacks": [
        f"{APPS}runtime_edges.py::test_paths_of_code_are_those_of_the_sources",
        f"{APPS}runtime_edges.py::test_code_is_at_var_task_and_layers_are_at_opt",
    ],
    "On macOS, and where Linux does not allow users to make namespaces": [
        f"{APPS}runtime_edges.py::"
        "test_functions_run_with_a_note_if_the_system_allows_no_namespaces",
    ],
    "All functions then share `/tmp`": [
        f"{APPS}runtime_edges.py::"
        "test_functions_run_with_a_note_if_the_system_allows_no_namespaces",
    ],
    "`mayfly up` prints a note with the reason": [
        f"{APPS}runtime_edges.py::"
        "test_functions_run_with_a_note_if_the_system_allows_no_namespaces",
    ],
    "A folder of Python, of this runtime or of your sources that is below `/tmp`": [
        f"{APPS}runtime_edges.py::test_sources_below_tmp_stay_visible",
    ],
    "A layer of Powertools or of the AWS SDK for pandas": [
        f"{UNIT}templates_as_written.py::test_published_layer_of_a_package_is_that_package",
    ],
    "A function of an image sees every file": [
        f"{UNIT}templates_as_written.py::"
        "test_image_with_nothing_but_python_files_runs_as_its_folder",
    ],
    "A change of a `requirements.txt`, of a zip archive or of the template": [
        f"{UNIT}differences.py::test_change_that_needs_a_restart_is_named",
    ],
    "A function with `BuildMethod: makefile` runs its folder as it is": [
        f"{UNIT}templates_as_written.py::test_makefile_of_a_function_is_accepted_and_not_run",
    ],
    "Macros of CloudFormation are not run": [
        f"{UNIT}templates_as_written.py::test_macro_is_absent_by_its_name",
    ],
    "The calls of a role with a permissions boundary or `NotResource`": [
        f"{UNIT}differences.py::test_role_that_cannot_be_known_is_not_checked",
    ],
    "`GetCallerIdentity` of a function": [
        f"{APPS}ports.py::test_caller_identity_of_a_function_is_the_root_user",
    ],
    "An alias or a version is not visible to the function": [
        f"{APPS}gateways.py::test_alias_is_not_visible_to_the_function",
    ],
    "A stack has the name of its template's folder": [
        f"{UNIT}templates_as_written.py::"
        "test_stack_has_the_name_of_its_folder_and_not_the_one_of_samconfig",
    ],
    "`DescribeStacks` names no parameters": [
        f"{APPS}described_stack.py::test_template_and_events_are_those_of_the_state",
    ],
    "Secrets are not rotated": [
        f"{UNIT}differences.py::test_rotation_of_a_secret_is_absent_and_its_replicas_are_accepted",
    ],
    "Key policies and grants of KMS have no effect": [
        f"{APPS}as_written.py::test_policy_of_a_key_allows_nothing",
        f"{WIRE}keys.py::test_what_is_not_served_fails_by_its_name",
    ],
    "Keys are not rotated, and exist in one region": [
        f"{WIRE}keys.py::test_what_is_not_served_fails_by_its_name",
        f"{APPS}as_written.py::test_key_of_another_origin_has_material_and_one_region",
    ],
    "A key has material of the emulator": [
        f"{APPS}as_written.py::test_key_of_another_origin_has_material_and_one_region",
    ],
    "Keys that AWS manages": [
        f"{WIRE}keys.py::test_unknown_key_is_not_found",
    ],
    "A `SecureString` of SSM": [
        f"{UNIT}roles.py::test_request_needs_actions_on_resources",
    ],
    "Ciphertexts of KMS cannot be decrypted on AWS": [
        f"{WIRE}keys.py::test_bytes_that_are_no_ciphertext_are_refused",
    ],
    "A queue, topic, bucket or secret with a key of KMS": [
        f"{APPS}as_written.py::test_queue_with_a_key_is_used_without_a_permission_on_the_key",
    ],
    "Conditions of policies are not evaluated": [
        f"{UNIT}roles.py::test_role_allows_what_its_policies_allow",
        f"{UNIT}authorizations.py::test_signer_may_call_what_its_role_allows",
    ],
    "A role outside the template is not checked": [
        f"{UNIT}differences.py::test_role_that_cannot_be_known_is_not_checked",
        f"{UNIT}differences.py::test_calls_to_an_endpoint_of_ones_own_have_no_role",
    ],
    "The response to `Invoke` has another `RequestId`": [
        f"{APPS}events.py::test_function_error_comes_with_the_reply",
    ],
    "A function runs at most 10 asynchronous events": [
        f"{UNIT}invocations.py::test_backlog_of_a_function_does_not_delay_another",
    ],
    "Records of Kinesis streams are in memory": [
        f"{WIRE}state_cases.py::test_records_of_kinesis_streams_end_with_the_emulator",
        f"{UNIT}differences.py::test_mapping_of_a_kinesis_stream_keeps_no_position",
    ],
    "SNS sends no e-mails": [
        f"{WIRE}events.py::test_message_for_people_and_for_servers_is_not_sent",
        f"{UNIT}outside.py::test_receiver_that_gets_nothing_here_is_named",
    ],
    "EventBridge delivers to no targets other than": [
        f"{UNIT}outside.py::test_receiver_that_gets_nothing_here_is_named",
        f"{APPS}events.py::test_upload_calls_a_function_if_its_key_matches",
    ],
    "A topic, queue or function that does not exist is skipped": [
        f"{WIRE}events.py::test_message_for_an_endpoint_that_is_gone_is_skipped_with_a_line",
        f"{WIRE}events.py::test_event_for_a_target_that_is_gone_is_skipped_with_a_line",
    ],
    "Requests meet no": [
        f"{WIRE}transactions.py::test_transaction_that_takes_no_time_meets_nothing"
    ],
    "TTL deletes items `--ttl-lag` seconds late": [
        f"{UNIT}differences.py::test_ttl_deletes_items_a_minute_late_by_default",
        f"{APPS}second_application.py::"
        "test_expired_item_is_deleted_after_the_lag_and_not_before_its_time",
    ],
    "AWS may take days; a test can ask for that": [
        f"{APPS}second_application.py::"
        "test_expired_item_is_deleted_after_the_lag_and_not_before_its_time",
    ],
    "Stream records that every mapping of the stream has read": [
        f"{WIRE}state_cases.py::test_records_that_were_read_are_dropped_after_fifteen_minutes",
    ],
    "Only the newest 250 of them are kept": [
        f"{WIRE}state_cases.py::test_newest_250_records_that_were_read_are_kept",
    ],
    "The emulator accepts only its own keys": [
        f"{APPS}ports.py::test_every_port_but_the_gateway_refuses_requests_from_outside_its_stack",
        f"{APPS}ports.py::test_key_of_a_function_makes_no_stack_whatever_service_it_names",
    ],
}


def lines() -> list[str]:
    """Returns the lines of the section, without the signs of the list."""
    _, _, rest = (ROOT / PAGE).read_text().partition(f"\n## {SECTION}\n")
    return [line[2:] for line in rest.partition("\n## ")[0].splitlines() if line.strip()]


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("line", lines(), ids=lambda line: re.sub(r"\W+", "-", line)[:50])
def test_line_has_a_test(line: str) -> None:
    beginnings = [beginning for beginning in HELD if line.startswith(beginning)]
    assert len(beginnings) == 1, "each difference needs a test: name it in HELD"


@pytest.mark.parametrize("beginning", HELD)
def test_test_of_a_line_exists(beginning: str) -> None:
    assert any(line.startswith(beginning) for line in lines()), f"{PAGE} has no such line"
    assert HELD[beginning]
    for test in HELD[beginning]:
        file, _, name = test.partition("::")
        assert name in names_in(file), test
