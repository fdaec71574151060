"""Tables as columns: of files and of data frames, what each column holds, parsed once, and encoded for networks."""

from caveat._tables._chunks import Chunk, content_of, read_chunks
from caveat._tables._columns import Array, Columns, TypedColumns, as_columns, as_objects, count_rows, take
from caveat._tables._dress import PLAIN, Dress
from caveat._tables._impossible import ImpossibleDates
from caveat._tables._misspelled import Spelling
from caveat._tables._reader import Table, TableReader, Trees
from caveat._tables._reading import learn_table, read_targets
from caveat._tables._sample import class_labels, read_sample, target_numbers
from caveat._tables._schema import (
    FIRST,
    CategoryColumn,
    Column,
    DateColumn,
    NumberColumn,
    Schema,
    parse_columns,
)
from caveat._tables._training_table import TrainingTable
from caveat._tables._values import key_of, row_place, shown

__all__ = [
    "FIRST",
    "PLAIN",
    "Array",
    "CategoryColumn",
    "Chunk",
    "Column",
    "Columns",
    "DateColumn",
    "Dress",
    "ImpossibleDates",
    "NumberColumn",
    "Schema",
    "Spelling",
    "Table",
    "TableReader",
    "TrainingTable",
    "Trees",
    "TypedColumns",
    "as_columns",
    "as_objects",
    "class_labels",
    "content_of",
    "count_rows",
    "key_of",
    "learn_table",
    "parse_columns",
    "read_chunks",
    "read_sample",
    "read_targets",
    "row_place",
    "shown",
    "take",
    "target_numbers",
]
