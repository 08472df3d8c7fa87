//! The columns of a table at the moment of a change, from the table map before its rows.
//!
//! Input: a table map event with full metadata. Output: the [`Table`], and the [`Shape`] of each column. Names,
//! signs, character sets, texts of ENUM and SET, and the primary key are those of the moment when the rows were
//! written: no catalog of today is asked.

use std::sync::Arc;

use super::{
    charset::{BINARY, Charset, Charsets},
    describe::{declared, kind},
    server::Specials,
    shape::Shape,
    wire::{CannotRead, Wire},
};
use crate::table::{Column, Table, TableName};

/// A table as the rows after its map are read.
#[derive(Debug)]
pub(super) struct Layout {
    /// The table. Without names of columns if it is not captured.
    pub(super) table: Arc<Table>,
    /// How each column of the rows is stored.
    pub(super) shapes: Vec<Shape>,
    /// The places of columns that only the log has.
    pub(super) hidden: Vec<usize>,
}

/// The part of a table map that is there without any metadata.
pub(super) struct TableMap<'a> {
    pub(super) name: TableName,
    types: &'a [u8],
    details: &'a [u8],
    metadata: &'a [u8],
}

/// The number that rows name their table by, and the rest.
pub(super) fn number(body: &[u8]) -> Result<u64, CannotRead> {
    Wire(body).low_first(6)
}

impl<'a> TableMap<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, CannotRead> {
        let mut wire = Wire(body);
        wire.take(8)?;
        let mut name = || -> Result<Arc<str>, CannotRead> {
            let length = usize::from(wire.u8()?);
            let name = wire.take(length)?;
            wire.u8()?;
            std::str::from_utf8(name)
                .map(Arc::from)
                .map_err(|_| CannotRead::new("a table's name is not UTF-8"))
        };
        let name = TableName {
            schema: name()?,
            table: name()?,
        };
        let columns = wire.length()?;
        let types = wire.take(columns)?;
        let details = wire.length()?;
        let details = wire.take(details)?;
        wire.take(columns.div_ceil(8))?;
        Ok(Self {
            name,
            types,
            details,
            metadata: wire.0,
        })
    }

    /// How its columns are stored, and nothing else: for a table that is not captured.
    pub(super) fn bare(&self) -> Result<Layout, CannotRead> {
        let table = Arc::new(Table {
            name: self.name.clone(),
            columns: Vec::new(),
            key: Vec::new(),
        });
        let shapes = self.shapes(&Metadata::default(), &Charsets::default())?;
        Ok(Layout {
            table,
            shapes,
            hidden: Vec::new(),
        })
    }

    /// Whether a column may be a UUID or an address. The stream tells those as BINARY(16) and BINARY(4).
    pub(super) fn may_be_special(&self) -> bool {
        let mut details = Wire(self.details);
        self.types.iter().any(|&code| {
            Code::new(code, &mut details)
                .is_ok_and(|code| code.kind == 254 && matches!(code.long(), 4 | 16))
        })
    }

    /// All of it.
    pub(super) fn full(
        &self,
        charsets: &Charsets,
        specials: &Specials,
    ) -> Result<Layout, CannotRead> {
        let metadata = Metadata::new(self.metadata)?;
        if metadata.names.len() != self.types.len() {
            return Err(CannotRead(format!(
                "rows of {} come without the names of their columns. Run `SET GLOBAL binlog_row_metadata = 'FULL'` at \
                 the source; changes that were written before that cannot be captured",
                self.name
            )));
        }
        let mut shapes = self.shapes(&metadata, charsets)?;
        for (shape, name) in shapes.iter_mut().zip(&metadata.names) {
            if let Some(special) = specials.get(&**name) {
                shape.specialize(*special);
            }
        }
        let all = metadata.names.iter().zip(&shapes).zip(self.types);
        let (mut columns, mut shown, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        for (at, ((name, shape), &code)) in all.enumerate() {
            if is_hash(name, shape) {
                hidden.push(at);
                continue;
            }
            shown.push(at);
            columns.push(Column {
                name: Arc::clone(name),
                kind: kind(shape, code),
                declared: declared(shape, code).into(),
            });
        }
        let in_table = |at: &usize| {
            shown.binary_search(at).map_err(|_| {
                CannotRead(format!(
                    "the primary key of {} has a column that is not there",
                    self.name
                ))
            })
        };
        let key = metadata
            .key
            .iter()
            .map(in_table)
            .collect::<Result<_, _>>()?;
        let table = Arc::new(Table {
            name: self.name.clone(),
            columns,
            key,
        });
        Ok(Layout {
            table,
            shapes,
            hidden,
        })
    }

    fn shapes(
        &self,
        metadata: &Metadata<'_>,
        charsets: &Charsets,
    ) -> Result<Vec<Shape>, CannotRead> {
        let mut details = Wire(self.details);
        let (mut numbers, mut texts, mut choices) = (0, 0, 0);
        let (mut enums, mut sets) = (metadata.enums.iter(), metadata.sets.iter());
        let mut shapes = Vec::with_capacity(self.types.len());
        for &code in self.types {
            let code = Code::new(code, &mut details)?;
            let unsigned = code.is_number() && {
                numbers += 1;
                sign(metadata.signs, numbers - 1)
            };
            let collation = if code.is_text() {
                texts += 1;
                metadata.charset.of(texts - 1)
            } else if matches!(code.kind, ENUM | SET) {
                choices += 1;
                metadata.choice_charset.of(choices - 1)
            } else {
                BINARY
            };
            let charset = charsets.of(collation);
            let named = |texts: Option<&Vec<&[u8]>>| -> Result<Arc<[Arc<str>]>, CannotRead> {
                texts
                    .into_iter()
                    .flatten()
                    .map(|text| Ok(charset.text(text)?.0))
                    .collect()
            };
            shapes.push(match code.kind {
                ENUM => Shape::Enum {
                    bytes: code.low,
                    texts: named(enums.next())?,
                },
                SET => Shape::Set {
                    bytes: code.low,
                    texts: named(sets.next())?,
                },
                _ => code.shape(unsigned, charset)?,
            });
        }
        Ok(shapes)
    }
}

/// Whether it is the hash that MariaDB keeps in each row for a UNIQUE key of a text without a length. Nobody can see it
/// but in the log. It would tell of a column that is masked.
fn is_hash(name: &str, shape: &Shape) -> bool {
    let number = name.strip_prefix("DB_ROW_HASH_").unwrap_or_default();
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(shape, Shape::Int { bytes: 8, .. })
}

const ENUM: u8 = 247;
const SET: u8 = 248;

/// A type with its bytes of detail.
struct Code {
    kind: u8,
    /// The first byte of detail, and the second.
    low: u8,
    high: u8,
}

impl Code {
    fn new(kind: u8, details: &mut Wire<'_>) -> Result<Self, CannotRead> {
        let bytes = match kind {
            // FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2, blobs, GEOMETRY, JSON.
            4 | 5 | 17 | 18 | 19 | 140 | 245 | 249..=252 | 255 => 1,
            // VARCHAR, BIT, DECIMAL, ENUM, SET, CHAR.
            15 | 16 | 141 | 246..=248 | 253 | 254 => 2,
            _ => 0,
        };
        let detail = details.take(bytes)?;
        let (mut low, mut high) = (
            detail.first().copied().unwrap_or(0),
            detail.get(1).copied().unwrap_or(0),
        );
        let mut kind = kind;
        // CHAR, ENUM and SET share a type: their first byte of detail has the real one, and the second the length.
        // Two bits of a long CHAR's length are in the first byte, turned round.
        if kind == 254 {
            let real = low | 0x30;
            let longer = u16::from((low & 0x30) ^ 0x30) << 4;
            let length = longer | u16::from(high);
            (kind, low, high) = match real {
                ENUM | SET => (real, high, 0),
                254 => (254, length.to_le_bytes()[0], length.to_le_bytes()[1]),
                other => {
                    return Err(CannotRead(format!("a CHAR says that it is type {other}")));
                }
            };
        }
        Ok(Self { kind, low, high })
    }

    fn long(&self) -> u16 {
        u16::from_le_bytes([self.low, self.high])
    }

    /// Whether the signs have a bit for it. MariaDB counts YEAR among the numbers.
    fn is_number(&self) -> bool {
        matches!(self.kind, 0..=5 | 8 | 9 | 13 | 246)
    }

    /// Whether the character sets have an entry for it. MariaDB counts shapes among the texts.
    fn is_text(&self) -> bool {
        matches!(self.kind, 15 | 140 | 141 | 249..=255)
    }

    fn shape(&self, unsigned: bool, charset: Charset) -> Result<Shape, CannotRead> {
        let int = |bytes| Shape::Int { bytes, unsigned };
        let of_length = if self.long() < 256 { 1 } else { 2 };
        let text = |length, size, compressed| Shape::Text {
            length,
            charset: charset.clone(),
            size,
            fixed: self.kind == 254,
            compressed,
        };
        Ok(match self.kind {
            1 => int(1),
            2 => int(2),
            9 => int(3),
            3 => int(4),
            8 => int(8),
            4 => Shape::Float,
            5 => Shape::Double,
            10 | 14 => Shape::Date,
            13 => Shape::Year,
            16 => Shape::Bits(u16::from(self.high) * 8 + u16::from(self.low)),
            17 => Shape::Timestamp(self.low),
            18 => Shape::DateTime(self.low),
            19 => Shape::Time(self.low),
            246 => Shape::Decimal {
                precision: self.low,
                scale: self.high,
            },
            15 | 253 | 254 => text(of_length, self.long(), false),
            141 => text(of_length, self.long(), true),
            249..=252 if (1..=4).contains(&self.low) => text(self.low, 0, false),
            140 if (1..=4).contains(&self.low) => text(self.low, 0, true),
            255 if (1..=4).contains(&self.low) => Shape::Geometry { length: self.low },
            7 | 11 | 12 => {
                return Err(CannotRead::new(
                    "a column has the time format of servers before 10.1, which does not tell its length. Run `SET \
                     GLOBAL mysql56_temporal_format = ON` and `ALTER TABLE … FORCE` at the source; changes that were \
                     written before that cannot be captured",
                ));
            }
            other => {
                return Err(CannotRead(format!("columns of type {other} are not known")));
            }
        })
    }
}

fn sign(signs: &[u8], at: usize) -> bool {
    signs
        .get(at / 8)
        .is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

/// The collations of the text columns, in one of two forms.
#[derive(Default)]
struct Collations {
    usual: u16,
    others: Vec<(usize, u16)>,
    each: Vec<u16>,
}

impl Collations {
    fn of(&self, at: usize) -> u16 {
        let other = self.others.iter().find(|(column, _)| *column == at);
        match (self.each.get(at), other) {
            (Some(&collation), _) | (None, Some(&(_, collation))) => collation,
            (None, None) => self.usual,
        }
    }

    fn default_and_others(field: &[u8]) -> Result<Self, CannotRead> {
        let mut wire = Wire(field);
        let usual = collation(&mut wire)?;
        let mut others = Vec::new();
        while !wire.is_empty() {
            others.push((wire.length()?, collation(&mut wire)?));
        }
        Ok(Self {
            usual,
            others,
            each: Vec::new(),
        })
    }

    fn of_each(field: &[u8]) -> Result<Self, CannotRead> {
        let mut wire = Wire(field);
        let mut each = Vec::new();
        while !wire.is_empty() {
            each.push(collation(&mut wire)?);
        }
        Ok(Self {
            each,
            ..Self::default()
        })
    }
}

fn collation(wire: &mut Wire<'_>) -> Result<u16, CannotRead> {
    u16::try_from(wire.lenenc()?).map_err(|_| CannotRead::new("a collation's number is too large"))
}

/// What `binlog_row_metadata=FULL` adds.
#[derive(Default)]
struct Metadata<'a> {
    signs: &'a [u8],
    charset: Collations,
    choice_charset: Collations,
    names: Vec<Arc<str>>,
    enums: Vec<Vec<&'a [u8]>>,
    sets: Vec<Vec<&'a [u8]>>,
    key: Vec<usize>,
}

impl<'a> Metadata<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, CannotRead> {
        let mut metadata = Self::default();
        let mut wire = Wire(bytes);
        while !wire.is_empty() {
            let kind = wire.u8()?;
            let length = wire.length()?;
            let field = wire.take(length)?;
            match kind {
                1 => metadata.signs = field,
                2 => metadata.charset = Collations::default_and_others(field)?,
                3 => metadata.charset = Collations::of_each(field)?,
                4 => metadata.names = names(field)?,
                5 => metadata.sets = choices(field)?,
                6 => metadata.enums = choices(field)?,
                8 => metadata.key = key(field, false)?,
                9 => metadata.key = key(field, true)?,
                10 => metadata.choice_charset = Collations::default_and_others(field)?,
                11 => metadata.choice_charset = Collations::of_each(field)?,
                // The kinds of shapes, and which columns are invisible: no value is read otherwise for them. What
                // later versions add describes columns further, and no column can be read without its type.
                _ => {}
            }
        }
        Ok(metadata)
    }
}

fn names(field: &[u8]) -> Result<Vec<Arc<str>>, CannotRead> {
    let mut wire = Wire(field);
    let mut names = Vec::new();
    while !wire.is_empty() {
        let length = wire.length()?;
        let name = std::str::from_utf8(wire.take(length)?)
            .map_err(|_| CannotRead::new("a column's name is not UTF-8"))?;
        names.push(name.into());
    }
    Ok(names)
}

fn choices(field: &[u8]) -> Result<Vec<Vec<&[u8]>>, CannotRead> {
    let mut wire = Wire(field);
    let mut columns = Vec::new();
    while !wire.is_empty() {
        let count = wire.length()?;
        let mut texts = Vec::new();
        for _ in 0..count {
            let length = wire.length()?;
            texts.push(wire.take(length)?);
        }
        columns.push(texts);
    }
    Ok(columns)
}

fn key(field: &[u8], prefixes: bool) -> Result<Vec<usize>, CannotRead> {
    let mut wire = Wire(field);
    let mut key = Vec::new();
    while !wire.is_empty() {
        key.push(wire.length()?);
        if prefixes {
            wire.length()?;
        }
    }
    Ok(key)
}
