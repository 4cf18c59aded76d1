from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.embedding import (
    Embedder,
    Embeddings,
    GivenVectors,
    HashEmbedder,
    dimension_of,
    name_of,
    named,
    numbers,
    words,
)
from kosmos_loader.errors import UsageError

RECEIPTS = [
    "SANYU STATIONERY SHOP, Setia Alam. Invoice 31/10/2017. Kertas A4, total RM 3.90",
    "GARDENIA BAKERIES (KL) SDN BHD, delivery 25/08/2017, bread rolls, total 36.36",
    "KEDAI PAPAN YEW CHUAN, timber and plywood, 17/03/2018, total RM 174.90",
    "Resolution of the parish council on the repair of the church roof, May 1911",
]


@dataclass
class ListsOnly:
    """What LangChain calls `Embeddings`: two methods, lists of floats, no dim and no name."""

    model: str = "text-embedding-3-small"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(len(text)), 1.0, 0.0]


def nearest(query: str, texts: list[str]) -> str:
    embedder = HashEmbedder()
    return texts[int(np.argmax(embedder.embed_documents(texts) @ embedder.embed_query(query)))]


def test_vectors_are_float32_of_length_one() -> None:
    vectors = HashEmbedder(256).embed_documents(RECEIPTS)
    assert vectors.shape == (4, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("text", ["", " \n\t", "!?… — ()", "\0"])
def test_a_text_without_a_letter_or_digit_has_a_vector_of_zeros(text: str) -> None:
    assert not HashEmbedder().embed_query(text).any()


def test_no_texts_give_an_empty_array_of_the_right_width() -> None:
    assert HashEmbedder(64).embed_documents([]).shape == (0, 64)


def test_a_question_and_a_document_of_the_same_text_have_the_same_vector() -> None:
    embedder = HashEmbedder()
    assert (embedder.embed_documents(RECEIPTS)[1] == embedder.embed_query(RECEIPTS[1])).all()


def test_another_process_with_another_hash_seed_makes_the_same_vectors() -> None:
    program = (
        "import sys; from kosmos_loader.embedding import HashEmbedder; "
        "sys.stdout.buffer.write(HashEmbedder().embed_query(sys.argv[1]).tobytes())"
    )
    text = RECEIPTS[0] + " 領収書 ﬁn"
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, text],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs == [HashEmbedder().embed_query(text).tobytes()] * 2


def test_the_vectors_of_version_1_do_not_change() -> None:
    vector = HashEmbedder(8).embed_query("Scanned pages in, cited answers out. 23/06/2018")
    expected = [0.82078, -0.20131, 0.10779, 0.19836, -0.09533, -0.20813, 0.10224, 0.4147]
    np.testing.assert_allclose(vector, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("SANYU STATIONERY", 0),
        ("5ANYU STATI0NERY SH0P", 0),  # digits for letters
        ("sanyustationeryshop", 0),  # spaces lost
        ("GARDEN1A BAKERIE5", 1),
        ("plvwood and tirnber", 2),  # v for y, rn for m
        ("parlsh councll roof", 3),
    ],
)
def test_a_misread_query_still_finds_its_text(query: str, row: int) -> None:
    assert nearest(query, RECEIPTS) == RECEIPTS[row]


@pytest.mark.parametrize(("query", "row"), [("増値税", 0), ("東京の領収書", 1), ("ใบเสร็จ", 2)])
def test_scripts_without_spaces_are_found_by_a_part_of_the_text(query: str, row: int) -> None:
    texts = [
        "北京市增值税专用发票 增値税",
        "東京都の領収書をお送りします",
        "กรุณาเก็บใบเสร็จไว้เป็นหลักฐาน",
    ]
    assert nearest(query, texts) == texts[row]


def test_a_date_is_found_however_its_parts_are_joined() -> None:
    texts = ["dated 23-06-2018", "dated 06-23-2018", "dated 23-06-2081"]
    assert nearest("23/06/2018", texts) == texts[0]


def test_words_are_folded_and_freed_of_punctuation() -> None:
    assert words("ﬁnal TOTAL: Café—Straße №5, naïve_thing") == [
        "final", "total", "cafe", "strasse", "no5", "naive", "thing",
    ]  # fmt: skip


def test_full_width_letters_and_digits_are_the_plain_ones() -> None:
    assert words("ＴＯＴＡＬ　１２３") == ["total", "123"]


def test_combining_marks_that_spell_a_word_stay_in_it() -> None:
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("שָׁלוֹם")[0].startswith("ש")


def test_runs_without_spaces_become_pairs_of_characters() -> None:
    assert words("税金abc発行日") == ["税金", "abc", "発行", "行日"]
    assert words("税") == ["税"]


def test_numbers_joined_by_punctuation_are_one() -> None:
    assert numbers("on 23/06/2018 or 05-JAN-2017 for 1,250.00 (12:30)") == [
        "23-06-2018", "05-jan-2017", "1-250-00", "12-30",
    ]  # fmt: skip


@given(st.text(max_size=80))
def test_any_text_has_a_finite_vector_and_words_without_spaces(text: str) -> None:
    vector = HashEmbedder(32).embed_query(text)
    assert np.isfinite(vector).all()
    assert not any(character.isspace() for word in words(text) for character in word)


@given(st.text("12a٣-/. _", max_size=40))
def test_numbers_are_found_from_the_first_digit_of_a_run_as_from_any(text: str) -> None:
    found = re.findall(r"\d+(?:[-/.:,][^\W_]+)*[-/.:,]\d+", text)
    assert numbers(text) == ["-".join(words(number)) for number in found]


def test_a_run_of_digits_is_looked_through_once() -> None:
    began = time.process_time()
    assert numbers("1" * 20_000) == []
    assert time.process_time() - began < 2


def test_a_very_long_word_is_embedded_too() -> None:
    assert HashEmbedder().embed_query("x1y2" * 10_000).any()


def test_lone_surrogates_do_no_harm() -> None:
    assert HashEmbedder().embed_query("scan\udc80 of a page").any()


@pytest.mark.parametrize("dim", [0, -1])
def test_a_vector_needs_at_least_one_number(dim: int) -> None:
    with pytest.raises(UsageError):
        HashEmbedder(dim)


@pytest.mark.parametrize("dim", ["x", 64.0, None, True])
def test_the_length_of_a_vector_is_a_whole_number(dim: Any) -> None:
    for kind in (HashEmbedder, GivenVectors):
        with pytest.raises(UsageError, match=r"dim is .*; give a whole number"):
            kind(dim)


def test_the_name_carries_version_and_dimension_and_leads_back_to_the_embedder() -> None:
    assert HashEmbedder(512).name == "hash-v1-512"
    found = named("hash-v1-512")
    assert found is not None
    assert found.dim == 512
    assert named("hash-v2-512") is named("openai") is named("hash-v1-") is None


def test_hash_embedder_is_an_embedder_and_langchains_kind_fits_too() -> None:
    assert isinstance(HashEmbedder(), Embedder)
    assert isinstance(ListsOnly(), Embeddings)
    assert not isinstance(ListsOnly(), Embedder)


def test_dimension_and_name_are_found_where_they_are_not_stated() -> None:
    assert dimension_of(ListsOnly()) == 3
    assert name_of(ListsOnly()).endswith(".ListsOnly:text-embedding-3-small")
    assert name_of(ListsOnly(model="")).endswith(".ListsOnly")


def test_dimension_and_name_are_taken_where_they_are_stated() -> None:
    assert dimension_of(HashEmbedder(128)) == 128
    assert name_of(HashEmbedder(128)) == "hash-v1-128"
