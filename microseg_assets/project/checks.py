"""What settings together must satisfy: expressions, features and names that depend on the project's own columns.

Belongs here: checks that no section can make alone. Does not belong here: what one section checks of itself (see
`settings`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from microseg_assets.project.document import Location
from microseg_assets.project.settings import ATTRIBUTE_NAME, RESERVED, Project
from ml import tables
from ml.features import features_table
from ml.features.context import PREFIX, STAMP
from ml.features.declared import DATED, DeclaredSpec, problems
from ml.layers import input_columns, unknown_features
from ml.lifecycle import CUTS, PARAMETERS
from ml.rules import RuleError, bind, nearest
from ml.segments import DEFAULT_AUDIENCES
from ml.segments.audiences import MEDIAN, expand_patterns

Problem = tuple[Location, str]  # the key, and what is wrong with it
_CONTEXT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def inconsistencies(project: Project) -> Iterator[Problem]:
    """Every setting that does not fit the others or the project's own columns, with a sentence about it."""
    if project.value.of == "margin" and "margin" not in project.tables.transactions.columns:
        why = "tables.transactions.columns has no margin: list it there (a column or an expression), or write revenue"
        yield ("value", "of"), why
        return
    if unusable := [*_invalid_names_of_contexts(project), *_invalid_declarations(project)]:
        yield from unusable
        return
    try:
        features = project.features_table.names
    except ValueError as error:
        yield ("features", "categories"), str(error)
        return
    columns = input_columns(features)
    yield from _roles_without_events(project)
    yield from _unknown_tables(project)
    yield from _invalid_contexts(project)
    yield from _invalid_expressions(project, columns)
    yield from _invalid_layers(project, features, columns)
    yield from _repeated_names(project)


def _roles_without_events(project: Project) -> Iterator[Problem]:
    """Roles of events where there are none."""
    if project.event_roles.declared and project.tables.events is None:
        yield ("event_roles",), "the project has no events: add tables.events, or remove event_roles"


def _invalid_declarations(project: Project) -> Iterator[Problem]:
    """Declared features of a table that the business does not bring, and what else is wrong with them."""
    if not project.features.declared:
        return  # those of what is mapped are right by construction
    spec = replace(project.feature_spec, declared=DeclaredSpec())
    try:
        kept = {column.name for column in project.feature_spec.of_facts}
        replaced = {column.name for column in spec.of_facts} - kept
        others = {c.name: str(c.type) for c in features_table(spec).columns if c.name not in replaced}
    except ValueError:
        return  # reported as a problem of categories
    section, absent = ("features", "declared"), project.missing_tables()
    for i, feature in enumerate(project.features.declared):
        if feature.table in absent:
            present = [name for name in DATED if name not in absent]
            message = f"this project brings no {feature.table}: add it to tables, or measure {', '.join(present)}"
            yield (*section, i, "table"), message
    for problem in problems(project.feature_spec.declared, others, input_columns()):
        yield (*section, problem.declaration, problem.key), problem.message


def _unknown_tables(project: Project) -> Iterator[Problem]:
    """Settings of validation for a table that does not exist."""
    named: list[Problem] = [
        (("validation", "rules", i, "table"), rule.table) for i, rule in enumerate(project.validation.rules)
    ]
    named += [(("validation", "min_rows", name), name) for name in project.validation.min_rows]
    for location, name in named:
        if name not in project.inputs:
            yield location, f"{name!r} is not a table; {nearest(name, project.inputs)}"


def _invalid_names_of_contexts(project: Project) -> Iterator[Problem]:
    """Names of contexts and of their attributes that cannot be those of tables, columns and features."""
    taken = {attribute.name.lower(): "customers" for attribute in project.attributes}
    for name, spec in project.tables.context.items():
        location, attributes = ("tables", "context", name), ("tables", "context", name, "attributes")
        if not _CONTEXT_NAME.fullmatch(name):
            yield location, "a name is of lower-case letters, digits and _, and begins with a letter"
        for column in spec.attributes:
            feature = f"{PREFIX}{column}".lower()
            if not ATTRIBUTE_NAME.fullmatch(column):
                yield (*attributes, column), "begin with a letter; letters, digits and _ may follow"
            elif column.lower() in {spec.by.lower(), STAMP, *RESERVED}:
                yield (*attributes, column), "this is a column that microseg uses: choose another name"
            elif feature in taken:
                yield (*attributes, column), f"{feature} is a feature of {taken[feature]} already: rename one"
            taken[feature] = f"the context {name}"


def _invalid_contexts(project: Project) -> Iterator[Problem]:
    """Contexts by something that is no feature of text."""
    own = {feature for context in project.contexts for feature in context.features}
    types = {column.name: column.type for column in project.features_table.columns[1:] if column.name not in own}
    texts = [name for name, type_ in types.items() if type_ == "string"]
    for context in project.contexts:
        location = ("tables", "context", context.name, "by")
        if context.by not in types:
            yield location, f"customers have no attribute {context.by!r}; {nearest(context.by, texts)}"
        elif context.by not in texts:
            remedy = "declare it as a string" if context.by in {a.name for a in project.attributes} else "choose a text"
            yield location, f"{context.by!r} is a {types[context.by]}, but a context is by a text: {remedy}"


def _invalid_expressions(project: Project, columns: Sequence[str]) -> Iterator[Problem]:
    """Rules of stages, layers, audiences and tables that cannot be parsed or use an unknown column."""
    declared = [*tables.LIFECYCLE_STAGES.columns, *project.features_table.columns, *tables.CUSTOMER_FEATURES.columns]
    types = dict.fromkeys(columns, "double") | {c.name: c.type for c in declared if c.name in columns}
    texts = [name for name, type_ in types.items() if type_ == "string"]
    medians = [f"{MEDIAN}{name}" for name in types if name not in texts]
    stage_types = {
        name: type_ for name, type_ in types.items() if name not in ("stage", "sub_stage", "spend_trend_28d")
    }
    rules: list[tuple[Location, str, Mapping[str, str], Collection[str]]] = [
        *((("lifecycle", "stages", i, "when"), rule.when, stage_types, PARAMETERS)
          for i, rule in enumerate(project.lifecycle.stages)),
        *((("lifecycle", "sub_stages", i, "when"), rule.when, stage_types, (*PARAMETERS, *CUTS))
          for i, rule in enumerate(project.lifecycle.sub_stages)),
        *((("segments", "layers", i, "rules", j, "when"), rule.when, types, ())
          for i, layer in enumerate(project.segments.layers) for j, rule in enumerate(layer.rules)),
    ]  # fmt: skip
    own_audiences = project.audiences if project.audiences != DEFAULT_AUDIENCES else ()
    for i, audience in enumerate(own_audiences):
        location = ("audiences", i, "when")
        if text := next((name for name in texts if re.search(rf"\${MEDIAN}{re.escape(name)}\b", audience.when)), None):
            yield location, f"{text!r} is a text, which has no median: compare it with a word, as in {text} = 'x'"
            continue
        try:
            rules += [(location, spec.when, types, medians) for spec in expand_patterns((audience,), columns)]
        except RuleError as error:
            yield location, str(error)
    for i, row_rule in enumerate(project.validation.rules):
        if row_rule.table in project.inputs:
            table_types = {column.name: str(column.type) for column in project.inputs[row_rule.table].columns}
            rules.append((("validation", "rules", i, "holds"), row_rule.holds, table_types, ()))
    for rule_location, expression, known, parameters in rules:
        try:
            bind(expression, known, parameters)
        except RuleError as error:
            yield rule_location, str(error)


def _invalid_layers(project: Project, features: Collection[str], columns: Sequence[str]) -> Iterator[Problem]:
    """Layers without a feature, of an unknown feature or of an unknown stage."""
    layers = [layer.name for layer in project.segments.layers]
    for name, feature in unknown_features(project.segments, features):
        location = ("segments", "layers", layers.index(name), "features")
        yield location, f"{feature!r} is not a feature; {nearest(feature, columns)}"
    stages = project.lifecycle.stage_names()
    for i, layer in enumerate(project.segments.layers):
        if layer.method == "kmeans" and not layer.features:
            yield ("segments", "layers", i, "features"), f"layer {layer.name} has no features: list at least one"
        for unknown in (stage for stage in layer.stages if stage not in stages):
            yield ("segments", "layers", i, "stages"), f"{unknown!r} is not a stage; {nearest(unknown, stages)}"


def _repeated_names(project: Project) -> Iterator[Problem]:
    named: tuple[tuple[Location, list[str]], ...] = (
        (("segments", "layers"), [layer.name for layer in project.segments.layers]),
        (("audiences",), [audience.name for audience in project.audiences]),
        (("actions", "actions"), [action.name for action in project.actions.actions]),
    )
    for section, names in named:
        for i, name in enumerate(names):
            if name in names[:i]:
                yield (*section, i, "name"), f"{name!r} is given twice; rename one"
