"""Write docs/what-can-be-audited.md from the claims below; each names the tests that prove it.

tests/test_what_can_be_audited.py fails where a claim has no test, or where the page differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustness.models.formats import FORMATS, H5, KERAS

PAGE = Path(__file__).parents[1] / "docs" / "what-can-be-audited.md"
MODELS = "tests/robustness/models"
OLD = f"{MODELS}/legacy/test_old_files.py::test_an_old_file_answers_as_its_own_keras_did"
APPLICATIONS = f"{MODELS}/legacy/test_applications.py::test_the_answers_are_those_of_tf_keras"
CLASSES = "tests/robustness/auditing/test_classes.py"


@dataclass(frozen=True)
class Claim:
    """Something that can be audited, or is refused with its cause.

    Attributes
    ----------
    what : the file, the outputs or the inputs.
    keras : the versions of Keras it holds for; "" for all.
    how : what the audit does, and the option it needs.
    tests : the tests that prove it, as ``path::function`` or ``path::function[parameter]``.
    """

    what: str
    keras: str
    how: str
    tests: tuple[str, ...]


def _old(*names: str) -> tuple[str, ...]:
    return tuple(f"{OLD}[{name}]" for name in names)


FILES = (
    Claim("`.keras`, Sequential and Functional", "3", "as it is",
          (f"{MODELS}/test_loading.py::test_a_harmless_model_is_accepted_and_loads",)),
    Claim("HDF5 with a whole model", "3", "as it is",
          (f"{MODELS}/test_loading.py::test_a_harmless_model_is_accepted_and_loads",)),
    Claim("either under another suffix, or none", "", "its bytes decide",
          (f"{MODELS}/test_formats.py::test_a_model_loads_whatever_it_is_called",)),
    Claim("HDF5, Sequential and graph", "1.2.2", "converted",
          _old("keras_1.2.2_graph.h5", "keras_1.2.2_sequential.h5")),
    Claim("HDF5, Sequential and graph", "2.0.5, 2.1.6, 2.3.1, 2.9, 2.11, 2.21", "converted",
          _old("keras_2.0.5_graph.h5", "keras_2.1.6_sequential.h5", "keras_2.3.1_sequential.h5",
               "keras_2.9.0_sequential.h5", "keras_2.11.0_graph.h5", "keras_2.21.0_sequential.h5")),
    Claim("HDF5, models within models", "2.2.4, 2.4", "converted",
          _old("keras_2.2.4_nested.h5", "keras_2.4.0_nested.h5")),
    Claim("HDF5, operations of TensorFlow", "2.2.4-tf, 2.3.0-tf", "converted by a table",
          _old("keras_2.2.4-tf_operations.h5", "keras_2.3.0-tf_operations.h5")),
    Claim("HDF5 named `.keras`, operations", "2.7", "converted by a table",
          _old("keras_2.7.0_operations.keras")),
    Claim("`.keras`, Sequential, nested, operations", "2.12, 2.13, 2.15, 2.21 (tf_keras)", "converted",
          _old("keras_2.12.0_nested.keras", "keras_2.13.1_sequential.keras",
               "keras_2.15.0_operations.keras", "keras_2.21.0_nested.keras")),
    Claim("families of `keras.applications`, `.h5` and `.keras`", "2.21 (tf_keras)", "converted",
          (APPLICATIONS,)),
    Claim("`preprocess_input` inside the model", "2", "converted; the scaling is recognised",
          (f"{MODELS}/legacy/test_conversion.py::test_preprocess_input_is_computed_and_recognised",)),
    Claim("files of Keras 2 that cannot be converted", "1, 2", "by tf_keras (extra `old-keras`)",
          (f"{MODELS}/test_old_keras.py::test_answers_and_gradients_are_those_of_tf_keras",
           f"{MODELS}/test_old_keras.py::test_an_audit_of_such_a_file")),
    Claim("weights only", "1, 2, 3", "`--architecture`",
          (f"{MODELS}/test_architecture.py::test_weights_of_every_layout_go_into_what_is_named",
           f"{MODELS}/test_architecture.py::test_a_file_of_keras_2_and_yaml")),
    Claim("layers of your own", "", "`--import` with `--trust-model`",
          (f"{MODELS}/test_user_code.py::test_a_model_with_own_layers_loads_with_its_code",)),
    Claim("files that run code, read files or exhaust memory", "", "refused; `--trust-model` for code",
          (f"{MODELS}/test_loading.py::test_a_lambda_is_refused_and_never_runs",
           f"{MODELS}/test_loading.py::test_zip_bombs_are_not_unpacked")),
    Claim("half downloads", "", "refused, with the bytes that are there",
          (f"{MODELS}/test_formats.py::test_a_half_download_says_so",)),
)  # fmt: skip

OUTPUTS = (
    Claim("`softmax`", "", "logits before it", ("tests/robustness/models/test_classifier.py::"
          "test_the_softmax_is_removed_in_every_kind_of_model",)),
    Claim("`logits`", "", "as they are",
          (f"{MODELS}/test_heads.py::test_a_linear_activation_behind_a_softmax_changes_nothing",)),
    Claim("`sigmoid`, one unit", "", "its input z becomes (0, z)",
          ("tests/robustness/models/test_classifier.py::test_one_sigmoid_unit_becomes_two_logits",)),
    Claim("`sigmoid-logit`, one unit without activation", "", "decided by labelled images, or `--head`",
          (f"{MODELS}/test_heads.py::test_a_unit_is_a_logit_if_its_sign_agrees_with_the_labels",)),
    Claim("`sigmoid-argmax`, several sigmoid units", "", "by their inputs; a note says so",
          (f"{MODELS}/test_heads.py::test_several_sigmoids_are_read_by_their_inputs",
           f"{MODELS}/test_heads.py::test_saturated_sigmoids_hide_no_flip")),
    Claim("`multi-label`", "", "`--head multi-label`",
          (f"{MODELS}/test_label_sets.py::test_any_label_that_changes_is_a_flip",)),
    Claim("one of several outputs", "", "`--output`",
          (f"{MODELS}/test_adapter.py::test_one_of_several_outputs",)),
    Claim("a regression", "", "refused with its cause",
          (f"{MODELS}/test_heads.py::test_a_unit_with_another_threshold_is_a_regression",
           f"{MODELS}/test_heads.py::test_a_unit_that_does_not_follow_the_labels_is_a_regression")),
)  # fmt: skip

INPUTS = (
    Claim("(height, width, 3) and (height, width, 1)", "", "as they are",
          (f"{MODELS}/test_adapter.py::test_the_model_as_it_is_needs_no_adapter",)),
    Claim("rows of numbers, such as 784", "", "square, or `--input-size`",
          (f"{MODELS}/test_adapter.py::test_rows_of_numbers_are_images_in_the_order_of_their_pixels",)),
    Claim("(28, 28)", "", "grey",
          (f"{MODELS}/test_adapter.py::test_images_without_channels_are_grey",)),
    Claim("channels first", "", "the axes are moved",
          (f"{MODELS}/test_adapter.py::test_channels_first_and_their_conversion_answer_alike",)),
    Claim("4 channels", "", "opaque, or `--input-size HxWx4`",
          (f"{MODELS}/test_adapter.py::test_the_fourth_channel_is_opaque_unless_stated",)),
    Claim("any size", "", "`--input-size`",
          (f"{MODELS}/test_adapter.py::test_any_size_is_the_one_that_is_stated",)),
    Claim("several inputs", "", "`--image-input`, `--constant`",
          (f"{MODELS}/test_adapter.py::test_other_inputs_have_their_constants",)),
    Claim("2 channels, features, sequences", "", "refused with their shape",
          (f"{MODELS}/test_adapter.py::test_what_no_image_enters",)),
    Claim("a range that the model scales itself", "", "recognised by what it computes",
          (f"{MODELS}/test_inner_scaling.py::test_counts_are_recognised",)),
    Claim("an unknown range", "", "decided by labelled images, or `--scaling`",
          (f"{MODELS}/test_scaling_choice.py::test_more_images_decide_what_few_do_not",)),
)  # fmt: skip

LABELS = (
    Claim(
        "folders called as the classes, in any order",
        "",
        "matched by name",
        (f"{CLASSES}::test_folders_are_never_matched_by_position",),
    ),
    Claim(
        "fewer folders than classes",
        "",
        "matched; others are left out and reported",
        (f"{CLASSES}::test_fewer_folders_than_classes_are_matched_by_name_and_others_left_out",),
    ),
    Claim(
        "folders called by numbers",
        "",
        "decided by labelled images, or `--classes`",
        (f"{CLASSES}::test_folders_called_by_numbers_are_the_outputs_that_images_show",),
    ),
    Claim(
        "a file of names beside the model",
        "",
        "read",
        (f"{CLASSES}::test_a_file_beside_the_model_names_its_classes",),
    ),
    Claim(
        "synsets of ImageNet",
        "",
        "`--classes imagenet_class_index.json`",
        (f"{CLASSES}::test_synsets_ask_for_the_file_that_names_them",),
    ),
)

GROUPS = {"Files": FILES, "Outputs": OUTPUTS, "Inputs": INPUTS, "Labels": LABELS}
REFUSED = tuple(one for one in FORMATS if one not in (KERAS, H5))


def page() -> str:
    """Return the text of the page."""
    parts = [
        "# What can be audited",
        "Any image classifier that Keras 1, 2 or 3 has saved to a file: alone, as tf.keras or as tf_keras.\n"
        "Each line names the tests that prove it; `scripts/write_what_can_be_audited.py` writes this page.\n"
        "Those of tf_keras and `keras.applications` run where tf_keras is installed (extra `old-keras`).",
    ]
    for title, claims in GROUPS.items():
        head = "| what | Keras | how | proved by |\n|---|---|---|---|"
        rows = [
            f"| {one.what} | {one.keras or 'all'} | {one.how} | {'<br>'.join(_short(one))} |"
            for one in claims
        ]
        parts += [f"## {title}", "\n".join([head, *rows])]
    kinds = "\n".join(f"- {words}" for words in dict.fromkeys(one.words for one in REFUSED))
    parts += [
        "## Files that are named and refused",
        "With the next step (`test_formats.py::test_each_kind_is_named_with_what_to_do`):",
        kinds,
    ]
    return "\n\n".join(parts) + "\n"


def _short(claim: Claim) -> list[str]:
    """The tests of a claim without the folders of their files."""
    return [f"`{test.rpartition('/')[2]}`" for test in claim.tests]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
