"""The example of docs/sessions.md for Django, run in a process of its own.

Django's settings are those of a whole process.
"""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

#: Settings of a project besides those of the page.
REST = """
SECRET_KEY = "s"
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
]
"""

URLS = """
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path

def enter(request):
    login(request, User(pk=7), "django.contrib.auth.backends.ModelBackend")
    return HttpResponse()

def look(request):
    return HttpResponse(request.session.get("_auth_user_id", "nobody"))

urlpatterns = [path("enter", enter), path("look", look)]
"""

PROGRAM = """
import django
from django.core.management import call_command
from moto import mock_aws

mock_aws().start()
django.setup()
from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.test import Client
from mayfly import resources, sessions
import signals

user_logged_in.disconnect(dispatch_uid="update_last_login")  # the user is in no table
resources.client("dynamodb").create_table(
    TableName="sessions",
    KeySchema=[
        {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"},
    ],
    AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
    BillingMode="PAY_PER_REQUEST",
)
store = settings.MAYFLY_SESSION_STORE()
browser = Client(headers={"host": "localhost"})

def look():
    print(browser.get("/look", secure=True).content.decode())

look()
answer = browser.get("/enter", secure=True)
print(sorted(answer.cookies))
look()
print(len(sessions.list_by_subject(store, tenant="default", subject="user-7").sessions))
sessions.end_all(store, tenant="default", subject="user-7")
look()
call_command("check", fail_level="WARNING")
"""


def test_django_example_of_the_page_works_as_described(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sessions.md").read_text()
    files = dict(re.findall(r"<!-- django: (\S+) -->\n```python\n(.*?)```", page, re.DOTALL))
    (tmp_path / "settings.py").write_text(files["settings.py"] + REST)
    (tmp_path / "signals.py").write_text(files["signals.py"])
    (tmp_path / "urls.py").write_text(URLS)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "DJANGO_SETTINGS_MODULE": "settings",
            "SESSIONS_TABLE": "sessions",
            "SUBJECT_KEY": "k" * 32,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "nobody",
        "['__Host-sessionid', 'csrftoken']",
        "7",
        "1",
        "nobody",
        "System check identified no issues (0 silenced).",
    ]
