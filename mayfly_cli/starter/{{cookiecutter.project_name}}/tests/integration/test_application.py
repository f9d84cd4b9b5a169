"""The whole application, in real processes: the fixture is Mayfly's pytest plugin."""

from mayfly_testing.stack import Stack


def test_page_answers(mayfly_stack: Stack) -> None:
    reply = mayfly_stack.get("/")
    assert reply.status_code == 200
    assert reply.text.startswith("{{cookiecutter.project_name}}: visits ")


def test_order_is_counted(mayfly_stack: Stack) -> None:
    before = mayfly_stack.counter("items")
    job = mayfly_stack.submit("orders.tally", {"items": 3})
    assert mayfly_stack.job(job["id"], wait=20)["status"] == "succeeded"
    assert mayfly_stack.counter("items") == before + 3
