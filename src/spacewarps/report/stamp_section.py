"""The part of the page that shows stamps."""

import math

from spacewarps.report.facts import Facts
from spacewarps.report.gallery import Gallery, galleries
from spacewarps.report.markup import Markup, element, joined
from spacewarps.report.pictures import bands_in_words, picture_of_stamp, pictures_of_saliency
from spacewarps.report.saliency import saliency

_MOST_FEATURES = 12
# Of a prediction set of more classes, the number is told.
_NAMED_IN_A_SET = 4


def stamps(facts: Facts) -> Markup:
    """Return the galleries, and what sorts and filters them."""
    found = galleries(facts.evaluation.probabilities, facts.evaluation.labels, facts.sources)
    bands = bands_in_words(facts.test.image_channels)
    mask = " The mask, the last channel, is not drawn, and counts in the saliency." * facts.test.mask_channel
    return joined(
        element(
            "p",
            f"On the left of each pair the stamp, {bands}, stretched (asinh) to its own range. On "
            "the right the saliency: how much the score of the answer changes with each pixel, as the network sees it "
            "(Simonyan et al. 2014), black where nothing does. It says where the network looks, not why."
            f"{mask}",
        ),
        _controls(facts.classes, facts.test.feature_names[:_MOST_FEATURES]),
        *(_gallery(facts, gallery, number) for number, gallery in enumerate(found)),
    )


def _controls(classes: list[str], features: list[str]) -> Markup:
    every = element("option", "all", value="")
    of_classes = [element("option", name, value=str(number)) for number, name in enumerate(classes)]
    orders = {
        "given": "as chosen",
        "surest": "probability, highest first",
        "least": "probability, lowest first",
        "id": "id",
        "actual": "class",
        "predicted": "predicted class",
        **{f"feature{number}": f"{name}, lowest first" for number, name in enumerate(features)},
    }
    options = [element("option", name, value=value) for value, name in orders.items()]
    return element(
        "div",
        _control("Sort by", element("select", *options, id="sorted-by"), "sorted-by"),
        _control("Class", element("select", every, *of_classes, id="of-class"), "of-class"),
        _control("Predicted", element("select", every, *of_classes, id="taken-for"), "taken-for"),
        _control("Id contains", element("input", id="of-id", type="search", autocomplete="off"), "of-id"),
        element("p", id="told", role="status", class_="soft"),
        id="controls",
        class_="controls",
        role="group",
        aria_label="Sort and filter the stamps",
        # The script shows them, as without it they do nothing.
        hidden=True,
    )


def _control(name: str, control: Markup, identity: str) -> Markup:
    return element("div", element("label", name, for_=identity), control)


def _gallery(facts: Facts, gallery: Gallery, number: int) -> Markup:
    if not gallery.samples:
        return joined(element("h3", gallery.name), element("p", "There is none."))
    answers = [int(facts.predicted[sample]) for sample in gallery.samples]
    maps = pictures_of_saliency(saliency(facts.network, facts.test, gallery.samples, answers))
    cards = [
        _card(facts, sample, found, position)
        for position, (sample, found) in enumerate(zip(gallery.samples, maps, strict=True))
    ]
    heading = f"gallery-{number}"
    return joined(
        element("h3", gallery.name, id=heading),
        element("p", gallery.about, class_="soft"),
        element("ol", *cards, class_="stamps", aria_labelledby=heading),
    )


def _card(facts: Facts, sample: int, map_of_saliency: str, position: int) -> Markup:
    row, predicted = facts.test.samples.iloc[sample], int(facts.predicted[sample])
    taken_for, probability = facts.classes[predicted], float(facts.evaluation.probabilities[sample, predicted])
    told = {"id": str(row["id"]), "class": str(row["label"]), "predicted": f"{taken_for} ({probability:.1%})"}
    possible = facts.set_of(sample)
    if possible is not None:
        named = ", ".join(possible) or "no class"
        told["may be"] = named if len(possible) <= _NAMED_IN_A_SET else f"{len(possible)} classes"
    unusual = facts.evaluation.predictions["unusual"].iloc[sample]
    if unusual:
        told["unusual"] = str(unusual)
    values = {}
    for number, name in enumerate(facts.test.feature_names[:_MOST_FEATURES]):
        value = float(row[name])
        told[f"feature {name}"] = f"{value:.6g}" if math.isfinite(value) else "no value"
        values[f"data_feature{number}"] = repr(value) if math.isfinite(value) else ""
    stamp = picture_of_stamp(facts.test.packed[facts.test.rows[sample]][: facts.test.image_channels])
    height, width = facts.test.stamp_shape[1:]
    sizes = {"width": str(width), "height": str(height)}
    return element(
        "li",
        element(
            "div",
            element("img", src=stamp, alt=f"Stamp of {row['id']}, {row['label']} taken for {taken_for}", **sizes),
            element("img", src=map_of_saliency, alt=f"Saliency of {taken_for} in the stamp of {row['id']}", **sizes),
            class_="pair",
        ),
        element("dl", *(part for name, text in told.items() for part in (element("dt", name), element("dd", text)))),
        data_id=str(row["id"]),
        data_actual=str(int(facts.evaluation.labels[sample])),
        data_predicted=str(predicted),
        data_probability=f"{probability:.9f}",
        data_given=str(position),
        **values,
    )
