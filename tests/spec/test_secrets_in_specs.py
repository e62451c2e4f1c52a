"""A secret in clear is refused with the command that keeps it, and no error repeats it."""

from __future__ import annotations

import pytest

from stackyard.spec.leaks import problems
from stackyard.spec.reader import read

CANARY = "canary7Zq"
KEY = "AKIA" + "IOSFODNN7EXAMPLE"

# word id: (text of a file, the name that the secret is to have)
CLEAR = {
    "password": (f"db_password: {CANARY}\n", "DB_PASSWORD"),
    "camel-case": (f"mapsApiKey: {CANARY}\n", "MAPS_API_KEY"),
    "dashes": (f"access-key: {CANARY}\n", "ACCESS_KEY"),
    "token": (f"a: {{b: {{token: {CANARY}}}}}\n", "TOKEN"),
    "secret": (f"client_secret: '{CANARY}'\n", "CLIENT_SECRET"),
    "number": ("password: 12345678\n", "PASSWORD"),
    "doubtful-number": ("password: 0123456\n", "PASSWORD"),
    "in-a-list": (f"a:\n  - passphrase: {CANARY}\n", "PASSPHRASE"),
    "digit-first": (f"2fa_token: {CANARY}\n", "FA_TOKEN"),
    "url": (f"parquet: s3://reader:{CANARY}@bucket/x\n", "PARQUET_PASSWORD"),
    "url-in-a-comment": (f"a: b  # https://reader:{CANARY}@host/x\n", "URL_PASSWORD"),
    "url-without-user": (f"a: redis://:{CANARY}@host\n", "A_PASSWORD"),
    "cloud-key": (f"note: {KEY}\n", "AWS_ACCESS_KEY_ID"),
    "cloud-key-as-a-name": (f"{KEY}: a\n", "AWS_ACCESS_KEY_ID"),
    "cloud-key-in-a-comment": (f"# {KEY}\na: b\n", "AWS_ACCESS_KEY_ID"),
    "escaped": ('note: "AK\\x49AIOSFODNN7EXAMPLE"\n', "AWS_ACCESS_KEY_ID"),
    "private-key": ("a: |\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  b\n", "PRIVATE_KEY"),
    "github": (f"a: ghp_{'x' * 36}\n", "GITHUB_TOKEN"),
    "signed-token": (f"a: eyJ{'a' * 20}.eyJ{'b' * 20}.c\n", "TOKEN"),
    "in-a-broken-file": (f"a: [\npassword: {CANARY}\n", "PASSWORD"),
}
HARMLESS = {
    "a-column-of-that-name": "columns: {token: {type: string}}\n",
    "a-value-of-that-name": "label: password\n",
    "names-of-secrets": "secrets: [DB_PASSWORD, API_KEY]\n",
    "nothing": "password: null\n",
    "truth": "needs_token: true\n",
    "a-count": "max_tokens: 100\n",
    "a-url-without-password": "parquet: s3://bucket/folder\n",
    "a-url-with-a-port": "a: http://host:8080/x@y\n",
    "a-path": "token_file: keys/token\n",
}


@pytest.mark.parametrize("word", CLEAR)
def test_a_secret_in_clear_is_found_and_never_repeated(word, tmp_path):
    text, name = CLEAR[word]
    (tmp_path / "spec.yaml").write_text(text)
    (found,) = problems(read(tmp_path / "spec.yaml"))
    assert found.code == "plaintext-secret"
    assert f"`pulumi config set --secret {name}`" in found.remedy
    assert not any(part in str(found) for part in (CANARY, KEY, "0123456", "12345678", "ghp_", "eyJ"))


@pytest.mark.parametrize("word", HARMLESS)
def test_what_only_sounds_like_a_secret_is_let_pass(word, tmp_path):
    (tmp_path / "spec.yaml").write_text(HARMLESS[word])
    assert problems(read(tmp_path / "spec.yaml")) == []


PLACES = {
    "unknown-field": ("", f"password: {CANARY}\n"),
    "override": (f"  training: {{api_key: {CANARY}}}\n", ""),
    "environment": (f"token: {CANARY}\n", ""),
    "parameter": (f"  training: {{parameters: {{secret_key: {CANARY}}}}}\n", ""),
    "name-of-a-secret": (f"  data: {{source: {{secrets: [{CANARY}]}}}}\n", ""),
    "secrets-as-fields": (f"  data: {{source: {{secrets: {{A: {CANARY}}}}}}}\n", ""),
    "secrets-as-text": (f"  data: {{source: {{secrets: {CANARY}}}}}\n", ""),
    "doubtful-number": ("", "password: 0777777\n"),
    "duplicate": ("", f"password: {CANARY}\npassword: {CANARY}\n"),
    "after-a-broken-line": ("", f"]\npassword: {CANARY}\n"),
    "label": ("  task: {label: 'x://u:" + CANARY + "@h'}\n", ""),
    "field-name": ("", f"'x://u:{CANARY}@h': 1\n"),
    "misspelt-choice": (f"  task: {{type: {KEY}}}\n", ""),
}


@pytest.mark.parametrize("word", PLACES)
def test_no_error_about_a_whole_spec_holds_the_secret(word, checkout):
    stack, project = PLACES[word]
    overrides = "overrides:\n  training:\n    rounds: 20\n  serving:\n    replicas: {max: 3}\n"
    if stack.startswith("  "):
        checkout.edit(stack=[(overrides, f"overrides:\n{stack}")])
    else:
        checkout.append(stack=stack)
    told = str(checkout.append(project=project).refusal())
    assert "pulumi config set --secret" in told
    assert not any(secret in told for secret in (CANARY, KEY, "0777777"))
