"""Block lists in the forms in which ThreatExchange, NCMEC and StopNCII hand them out."""

import json

import pytest

from storage.errors import FatalError
from storage.hash_lists import read_hashes

MD5, SHA1, PDQ = "ab" * 16, "cd" * 20, "0f" * 32


def found(tmp_path, text):
    path = tmp_path / "list"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return {kind: set(digits) for kind, digits in read_hashes(path).items()}


def ncmec(*entries):
    body = "".join(f"<{tag}><member id='1'>M</member><id>{n}</id>{inner}</{tag}>" for n, (tag, inner) in
                   enumerate(entries))  # fmt: skip
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        f'<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2"><images>{body}</images></queryResult>'
    )


def prints(**hashes):
    inner = "".join(f"<{kind}>{digits}</{kind}>" for kind, digits in hashes.items())
    return f"<classification>A1</classification><fingerprints>{inner}</fingerprints>"


def test_ncmecs_xml_without_what_was_deleted_and_videos(tmp_path):
    text = ncmec(
        ("image", prints(md5=MD5.upper(), sha1=SHA1, pdna="1,2,3")),
        ("image", prints(pdq=PDQ)),
        ("deletedImage", ""),
        ("video", prints(md5="00" * 16)),
        ("deletedVideo", ""),
    )
    assert found(tmp_path, text) == {"md5": {MD5}, "sha1": {SHA1}, "pdq": {PDQ}}


INDICATORS = [
    {"id": "1", "type": "HASH_MD5", "raw_indicator": MD5, "indicator": "other", "status": "MALICIOUS"},
    {"id": "2", "type": "HASH_PDQ", "indicator": PDQ.upper(), "owner": {"id": "7"}},
    {"id": "3", "type": "HASH_SHA1", "indicator": SHA1, "status": "NON_MALICIOUS"},
    {"id": "4", "type": "HASH_SHA1", "indicator": SHA1, "should_delete": True},
    {"id": "5", "type": "HASH_VIDEO_MD5", "indicator": "00" * 16},
]


@pytest.mark.parametrize("value", [INDICATORS, {"data": INDICATORS, "paging": {}}, [{"data": INDICATORS}]])
def test_threat_exchanges_json(tmp_path, value):
    assert found(tmp_path, value) == {"md5": {MD5}, "pdq": {PDQ}}


def test_stopnciis_json_without_what_was_withdrawn_and_videos(tmp_path):
    records = [
        {"signalType": "ImagePDQ", "hashValue": PDQ, "hashStatus": "Active", "caseNumbers": ["1"]},
        {"signalType": "ImagePDQ", "hashValue": "11" * 32, "hashStatus": "Withdrawn"},
        {"signalType": "ImagePDQ", "hashValue": "22" * 32, "hashStatus": "Deleted"},
        {"signalType": "VideoMD5", "hashValue": MD5, "hashStatus": "Active"},
    ]
    page = {"hashRecords": records, "nextPageToken": "x", "hasMoreRecords": False}
    with pytest.raises(FatalError, match="more records follow"):
        found(tmp_path, page | {"hasMoreRecords": True})
    assert found(tmp_path, page) == found(tmp_path, [page, {"hashRecords": []}]) == {"pdq": {PDQ}}


def test_threat_exchanges_csv_with_its_columns_in_any_order(tmp_path):
    assert found(tmp_path, f"tags,signal_str,category,signal_type\nx,{PDQ},POSITIVE_CLASS,pdq\n") == {"pdq": {PDQ}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ncmec(("image", prints(pdna="1,2,3"))), "image 0: it has only pdna, which cannot be computed here"),
        (ncmec(("image", "")), "image 0 lacks 'fingerprints'"),
        (ncmec(("image", prints(md5="ab"))), "image 0: expected md5: and 32"),
        ("<html><body>Sign in</body></html>", "its XML is a html"),
        ("<queryResult><image>", "no element found"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><queryResult>&b;</queryResult>', "DOCTYPE"),
        ('{"error": "not allowed"}', "entry 1 lacks 'type'"),
        ('[{"type": "HASH_PDQ"}]', "entry 1 lacks 'indicator'"),
        ('[{"type": "HASH_PDQ", "indicator": 7}]', "entry 1: expected"),
        ('[{"type": "PhotoDNA", "indicator": "AA"}]', "entry 1: it has only photodna"),
        ("[7]", "entry 1 has another form"),
        ("[" * 100_000, "too deep"),
        ("{", "is not valid JSON"),
        (f"signal_type,signal_str\nmd5,{MD5}\nmd5\n", "line 3"),
    ],
)
def test_a_list_that_cannot_be_understood_lets_nothing_in(tmp_path, text, sentence):
    with pytest.raises(FatalError, match=rf"{sentence}.*No image is let in"):
        found(tmp_path, text)
