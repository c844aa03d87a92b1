"""Write docs/what-can-be-audited.md from the claims below; each names the tests that prove it.

tests/test_what_can_be_audited.py fails where a claim has no test, or where the page differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robustness.models.formats import FORMATS, H5, KERAS

PAGE = Path(__file__).parents[1] / "docs" / "what-can-be-audited.md"
MODELS = "tests/robustness/models"
OLD = f"{MODELS}/legacy/test_old_files.py::test_an_old_file_answers_as_its_own_keras_did"
APPLICATIONS = f"{MODELS}/legacy/test_applications.py::test_the_answers_are_those_of_tf_keras"
KERAS3 = f"{MODELS}/legacy/test_keras3_hdf5.py"
SCALINGS = "tests/robustness/configuration/test_scaling_text.py"
CLASSES = "tests/robustness/auditing/test_classes.py"
Status = Literal["audited", "with an option", "refused"]


@dataclass(frozen=True)
class Claim:
    """Something that can be audited, or is refused with its cause.

    Attributes
    ----------
    what : the file, the outputs or the inputs.
    keras : the versions of Keras it holds for; "" for all.
    status : whether it is audited, audited with an option or an extra, or refused with its cause.
    how : what the audit does, and the option it needs.
    tests : the tests that prove it, as ``path::function`` or ``path::function[parameter]``.
    """

    what: str
    keras: str
    status: Status
    how: str
    tests: tuple[str, ...]


def _old(*names: str) -> tuple[str, ...]:
    return tuple(f"{OLD}[{name}]" for name in names)


FILES = (
    Claim("`.keras`, Sequential and Functional", "3", "audited", "as it is",
          (f"{MODELS}/test_loading.py::test_a_harmless_model_is_accepted_and_loads",)),
    Claim("HDF5 with a whole model", "3", "audited", "as it is",
          (f"{MODELS}/test_loading.py::test_a_harmless_model_is_accepted_and_loads",)),
    Claim("either as `.keras`, `.h5`, `.hdf5`, `.hdf`, `.he5`, `.model`, another suffix, or none", "",
          "audited", "its bytes decide",
          (f"{MODELS}/test_formats.py::test_a_model_loads_whatever_it_is_called",)),
    Claim("HDF5, Sequential and graph", "1.2.2", "audited", "converted",
          _old("keras_1.2.2_graph.h5", "keras_1.2.2_sequential.h5")),
    Claim("HDF5, Sequential and graph", "2.0.5, 2.1.6, 2.3.1, 2.9, 2.11, 2.21", "audited", "converted",
          _old("keras_2.0.5_graph.h5", "keras_2.1.6_sequential.h5", "keras_2.3.1_sequential.h5",
               "keras_2.9.0_sequential.h5", "keras_2.11.0_graph.h5", "keras_2.21.0_sequential.h5")),
    Claim("HDF5, models within models", "2.2.4, 2.4", "audited", "converted",
          _old("keras_2.2.4_nested.h5", "keras_2.4.0_nested.h5")),
    Claim("HDF5, operations of TensorFlow", "2.2.4-tf, 2.3.0-tf", "audited", "converted by a table",
          _old("keras_2.2.4-tf_operations.h5", "keras_2.3.0-tf_operations.h5")),
    Claim("HDF5 named `.keras`, operations", "2.7", "audited", "converted by a table",
          _old("keras_2.7.0_operations.keras")),
    Claim("`.keras`, Sequential, nested, operations", "2.12, 2.13, 2.15, 2.21 (tf_keras)",
          "audited", "converted",
          _old("keras_2.12.0_nested.keras", "keras_2.13.1_sequential.keras",
               "keras_2.15.0_operations.keras", "keras_2.21.0_nested.keras")),
    Claim("families of `keras.applications`, `.h5` and `.keras`", "2.21 (tf_keras)", "audited", "converted",
          (APPLICATIONS,)),
    Claim("HDF5, operations and `preprocess_input` inside, which Keras 3 cannot read itself", "3", "audited",
          "modules are added; the scaling is recognised",
          (f"{KERAS3}::test_answers_are_those_of_the_saved_model",
           f"{KERAS3}::test_the_preprocessing_of_caffe_is_recognised")),
    Claim("HDF5, `LayerScale` of ConvNeXt, `CustomScaleLayer` of InceptionResNetV2", "3", "audited",
          "where settings and weights are those of `keras.applications`, and no class of that name is "
          "imported; a note says so",
          (f"{KERAS3}::test_answers_are_those_of_the_saved_model",
           f"{KERAS3}::test_a_run_says_which_layers_it_took_for_those_of_keras",
           f"{KERAS3}::test_a_class_of_the_user_comes_first")),
    Claim("HDF5, another layer of one of these names", "3", "with an option",
          "`--import FILE.py --trust-model`",
          (f"{KERAS3}::test_a_layer_of_the_same_name_needs_its_code",
           f"{KERAS3}::test_other_weights_need_the_code_of_the_layer")),
    Claim("`preprocess_input` inside the model", "2", "audited", "converted; the scaling is recognised",
          (f"{MODELS}/legacy/test_conversion.py::test_preprocess_input_is_computed_and_recognised",)),
    Claim("files that cannot be converted", "2", "with an option", "by tf_keras (extra `old-keras`)",
          (f"{MODELS}/test_old_keras.py::test_answers_and_gradients_are_those_of_tf_keras",
           f"{MODELS}/test_old_keras.py::test_an_audit_of_such_a_file",
           f"{MODELS}/test_old_keras.py::test_tf_keras_reads_files_of_keras_2_and_not_of_keras_1")),
    Claim("files that cannot be converted", "1", "refused", "tf_keras does not read them either",
          (f"{MODELS}/test_old_keras.py::test_tf_keras_reads_files_of_keras_2_and_not_of_keras_1",)),
    Claim("`keras_model.h5` of Google's Teachable Machine", "2", "audited",
          "converted; takes -1..1 where labels leave the range open",
          (f"{MODELS}/test_known_makers.py::test_a_teachable_machine_takes_minus_one_to_one",
           f"{MODELS}/test_known_makers.py::test_labels_that_speak_against_the_maker_leave_it_open")),
    Claim("more layers in a row than Python's limit of recursion", "", "audited", "as others",
          (f"{MODELS}/test_deep_graphs.py::test_a_model_deeper_than_the_limit_of_recursion_is_loaded",)),
    Claim("weights only", "1, 2, 3", "with an option", "`--architecture`",
          (f"{MODELS}/test_architecture.py::test_weights_of_every_layout_go_into_what_is_named",
           f"{MODELS}/test_architecture.py::test_a_file_of_keras_2_and_yaml",
           f"{MODELS}/legacy/test_old_files.py::test_the_weights_of_an_old_file_go_into_its_architecture")),
    Claim("weights only, without `--architecture`", "", "refused", "says that it holds weights only",
          (f"{MODELS}/test_formats.py::test_weights_only_say_that_this_is_what_they_are",)),
    Claim("convolutions of Theano", "1", "audited", "their kernels are turned",
          (f"{MODELS}/legacy/test_conversion.py::test_kernels_of_theano_are_turned",)),
    Claim("`CuDNNLSTM`, `Lambda`, bilinear `UpSampling2D` of 2.2, and others without an equal", "2",
          "refused", "names the layer and the reason",
          (f"{MODELS}/legacy/test_conversion.py::test_what_has_no_equal_is_refused_with_the_reason",)),
    Claim("layers of your own", "", "with an option", "`--import` with `--trust-model`",
          (f"{MODELS}/test_user_code.py::test_a_model_with_own_layers_loads_with_its_code",)),
    Claim("layers of your own, without `--import`", "2", "refused", "names the class that is missing",
          (f"{MODELS}/legacy/test_conversion.py::test_the_name_of_a_missing_layer_is_said",)),
    Claim("files that run code, read files or exhaust memory", "",
          "refused", "named; `--trust-model` for code",
          (f"{MODELS}/test_loading.py::test_a_lambda_is_refused_and_never_runs",
           f"{MODELS}/test_loading.py::test_zip_bombs_are_not_unpacked")),
    Claim("half downloads", "", "refused", "says how many bytes are there",
          (f"{MODELS}/test_formats.py::test_a_half_download_says_so",)),
    Claim("zip archives of something else", "", "refused", "says what they hold",
          (f"{MODELS}/test_formats.py::test_each_zip_archive_of_something_else_is_named",)),
    Claim("a URL of such a file: `s3`, `gs`, `az`, `hf`, `https`", "", "audited",
          "copied, scanned, then read",
          ("tests/robustness/cli/test_remote_runs.py::"
           "test_a_run_of_urls_is_resumed_verified_and_repeated_by_its_owner_alone",)),
    Claim("SavedModel folders, and addresses of other kinds", "", "refused", "says what to do",
          (f"{MODELS}/test_loading.py::test_folders_missing_files_and_urls_are_refused",)),
)  # fmt: skip

OUTPUTS = (
    Claim("`softmax`", "", "audited", "logits before it", (f"{MODELS}/test_classifier.py::"
          "test_the_softmax_is_removed_in_every_kind_of_model",
          f"{MODELS}/legacy/test_old_files.py::test_an_old_file_is_read_by_the_logits_before_its_softmax")),
    Claim("`logits`", "", "audited", "as they are",
          (f"{MODELS}/test_classifier.py::test_logits_are_unchanged",)),
    Claim("`sigmoid`, one unit", "", "audited", "its input z becomes (0, z)",
          (f"{MODELS}/test_classifier.py::test_one_sigmoid_unit_becomes_two_logits",)),
    Claim("`sigmoid-logit`, one unit without activation", "", "audited",
          "decided by labelled images, or `--head`",
          (f"{MODELS}/test_heads.py::test_a_unit_is_a_logit_if_its_sign_agrees_with_the_labels",)),
    Claim("`sigmoid-argmax`, several sigmoid units", "", "audited", "by their inputs; a note says so",
          (f"{MODELS}/test_heads.py::test_several_sigmoids_are_read_by_their_inputs",
           f"{MODELS}/test_heads.py::test_saturated_sigmoids_hide_no_flip")),
    Claim("`multi-label`", "", "with an option", "`--head multi-label`",
          (f"{MODELS}/test_label_sets.py::test_any_label_that_changes_is_a_flip",)),
    Claim("`multi-label`, more than 512 sets of labels", "", "refused", "says how many there are",
          (f"{MODELS}/test_label_sets.py::test_too_many_sets_are_refused",)),
    Claim("several linear units without labels", "", "audited",
          "as logits; a warning says that nothing shows it",
          ("tests/robustness/diagnostics/test_preflight.py::"
           "test_linear_outputs_that_may_be_no_classes_are_told",)),
    Claim("one of several outputs", "", "with an option", "`--output`",
          (f"{MODELS}/test_adapter.py::test_one_of_several_outputs",)),
    Claim("a regression", "", "refused", "says its cause, with the ranges",
          (f"{MODELS}/test_heads.py::test_a_unit_with_another_threshold_is_a_regression",
           f"{MODELS}/test_heads.py::test_a_unit_that_does_not_follow_the_labels_is_refused")),
)  # fmt: skip

INPUTS = (
    Claim("(height, width, 3) and (height, width, 1)", "", "audited", "as they are",
          (f"{MODELS}/test_adapter.py::test_the_model_as_it_is_needs_no_adapter",
           f"{MODELS}/test_adapter.py::test_how_images_enter")),
    Claim("rows of numbers, such as 784", "", "audited", "square, or `--input-size`",
          (f"{MODELS}/test_adapter.py::test_rows_of_numbers_are_images_in_the_order_of_their_pixels",)),
    Claim("(28, 28)", "", "audited", "grey",
          (f"{MODELS}/test_adapter.py::test_images_without_channels_are_grey",)),
    Claim("channels first", "", "audited", "the axes are moved",
          (f"{MODELS}/test_adapter.py::test_channels_first_and_their_conversion_answer_alike",)),
    Claim("4 channels", "", "audited", "opaque, or `--input-size HxWx4`",
          (f"{MODELS}/test_adapter.py::test_the_fourth_channel_is_opaque_unless_stated",)),
    Claim("any size", "", "with an option", "`--input-size`",
          (f"{MODELS}/test_adapter.py::test_any_size_is_the_one_that_is_stated",)),
    Claim("several inputs", "", "with an option", "`--image-input`, `--constant`",
          (f"{MODELS}/test_adapter.py::test_other_inputs_have_their_constants",)),
    Claim("2 channels, features, sequences", "", "refused", "says their shape",
          (f"{MODELS}/test_adapter.py::test_what_no_image_enters",)),
    Claim("a range that the model scales itself", "", "audited", "recognised by what it computes",
          (f"{MODELS}/test_inner_scaling.py::test_counts_are_recognised",)),
    Claim("an unknown range", "", "audited", "decided by labelled images, or `--scaling`",
          (f"{MODELS}/test_scaling_choice.py::test_more_images_decide_what_few_do_not",)),
    Claim("`0..255`, `0..1`, `-1..1`, `caffe`, `torch`", "", "with an option", "`--scaling`, by name",
          (f"{SCALINGS}::test_names_are_those_of_the_models",
           f"{SCALINGS}::test_known_scalings_have_short_texts")),
    Claim("other numbers: mean, std, of, order", "", "with an option", "`--scaling`, as text or a table",
          (f"{SCALINGS}::test_numbers_against_their_closed_form",
           f"{SCALINGS}::test_a_table_and_a_text_are_one")),
    Claim("mean and std of a training set", "", "with an option", "`--scaling FILE`",
          (f"{SCALINGS}::test_statistics_of_a_file",)),
    Claim("`--scaling` that can be misread", "", "refused", "says what is expected",
          (f"{SCALINGS}::test_what_can_be_misread_is_refused",)),
)  # fmt: skip

LABELS = (
    Claim(
        "folders called as the classes, in any order",
        "",
        "audited",
        "matched by name",
        (f"{CLASSES}::test_folders_are_never_matched_by_position",),
    ),
    Claim(
        "fewer folders than classes",
        "",
        "audited",
        "matched; others are left out and reported",
        (f"{CLASSES}::test_fewer_folders_than_classes_are_matched_by_name_and_others_left_out",),
    ),
    Claim(
        "folders called by numbers",
        "",
        "audited",
        "decided by labelled images, or `--classes`",
        (f"{CLASSES}::test_folders_called_by_numbers_are_the_outputs_that_images_show",),
    ),
    Claim(
        "a file of names beside the model",
        "",
        "audited",
        "read",
        (f"{CLASSES}::test_a_file_beside_the_model_names_its_classes",),
    ),
    Claim(
        "synsets of ImageNet",
        "",
        "with an option",
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
        "Those of tf_keras and `keras.applications` run where tf_keras is installed (extra `old-keras`).\n\n"
        "A file of Keras 1 or 2 is converted first and is a model of Keras 3 from then on. Our files of old\n"
        "versions take 12x12x3 and end in a softmax; the other outputs and inputs are proved on models that\n"
        "Keras 3 made, not once more for each version.",
    ]
    for title, claims in GROUPS.items():
        head = "| what | Keras | status | how | proved by |\n|---|---|---|---|---|"
        rows = [
            f"| {one.what} | {one.keras or 'all'} | {one.status} | {one.how} | {'<br>'.join(_short(one))} |"
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
