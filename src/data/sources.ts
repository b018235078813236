import { AnnealError } from '../core/errors.js';
import { hashFiles, readLines, readText } from './corpus-file.js';
import { findFiles } from './glob.js';
import { readParquet } from './parquet.js';

/** A document, with whatever else its record has. */
export interface TextDocument {
  readonly text: string;
  readonly [field: string]: unknown;
}

export type DataRecord = Readonly<Record<string, unknown>>;

/** A line that was left out. */
export interface SkippedLine {
  file: string;
  line: number;
  reason: string;
}

/** Records that can be read again and again, always in the same order. */
export interface DataSource<T> extends AsyncIterable<T> {
  /** Hash of the contents and of how they are read: equal hashes mean equal records. */
  fingerprint(): Promise<string>;
  /** The corrupt lines that the last reading left out. */
  readonly skipped: readonly SkippedLine[];
}

export interface CorruptLines {
  /** Corrupt lines in all files that are passed over before they are an error. By default 100. */
  maxCorrupt?: number;
  /** Called for each; by default a process warning. */
  onSkip?: (line: SkippedLine) => void;
}

export interface TextOptions {
  /** What separates the documents of a file, such as '\n' or '\n\n'; by default a file is one document. */
  separator?: string;
}

export interface RecordOptions extends CorruptLines {
  /** Columns of Parquet files to read; by default all. */
  columns?: readonly string[] | undefined;
}

export interface FieldOptions extends RecordOptions, TextOptions {
  /** The field, or column, that has a document's text. By default 'text'. */
  text?: string | undefined;
}

type Kind = 'jsonl' | 'parquet' | 'text';

/** What is in a file, by its name. */
export function kindOf(file: string): Kind {
  const name = file.replace(/\.gz$/, '');
  if (/\.(jsonl|ndjson)$/.test(name)) return 'jsonl';
  return /\.parquet$/.test(name) ? 'parquet' : 'text';
}

/**
 * Documents of files: JSONL (`.jsonl`, `.ndjson`) and Parquet by their records, any other file as text. Names ending
 * in `.gz` are decompressed (not Parquet, which compresses by itself). Rows without text (null) are passed over.
 *
 * @param patterns paths, or patterns with `*`, `**`, `?`, `[…]` and `{a,b}`, such as `books/*.txt`
 */
export function documents(
  patterns: string | readonly string[],
  options: FieldOptions = {},
): DataSource<TextDocument> {
  const { text = 'text' } = options;
  return new FileSource(
    patterns,
    { text, separator: options.separator, columns: options.columns },
    (file, skip) => {
      if (kindOf(file) === 'text') return readTexts(file, options.separator);
      const records = readRecords(file, skip, options.columns);
      return withText(records, text, file, kindOf(file) === 'jsonl' ? skip : undefined);
    },
    options,
  );
}

/** Records of JSONL and Parquet files, such as conversations. */
export function records(
  patterns: string | readonly string[],
  options: RecordOptions = {},
): DataSource<DataRecord> {
  const plain = async function* (file: string, skip: Skip) {
    if (kindOf(file) === 'text') {
      throw new AnnealError(
        `${file} has no records; records are read from .jsonl, .ndjson and .parquet files`,
      );
    }
    for await (const { record } of readRecords(file, skip, options.columns)) yield record;
  };
  return new FileSource(patterns, { columns: options.columns }, plain, options);
}

type Skip = (line: number, reason: string) => void;

class FileSource<T> implements DataSource<T> {
  readonly #patterns: string | readonly string[];
  readonly #how: unknown;
  readonly #read: (file: string, skip: Skip) => AsyncIterable<T>;
  readonly #corrupt: Required<CorruptLines>;
  #skipped: SkippedLine[] = [];

  constructor(
    patterns: string | readonly string[],
    how: unknown,
    read: (file: string, skip: Skip) => AsyncIterable<T>,
    corrupt: CorruptLines,
  ) {
    this.#patterns = patterns;
    this.#how = how;
    this.#read = read;
    this.#corrupt = { maxCorrupt: corrupt.maxCorrupt ?? 100, onSkip: corrupt.onSkip ?? warn };
  }

  get skipped(): readonly SkippedLine[] {
    return this.#skipped;
  }

  async fingerprint(): Promise<string> {
    return hashFiles(await findFiles(this.#patterns), this.#how);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    const skipped: SkippedLine[] = [];
    this.#skipped = skipped;
    const { maxCorrupt, onSkip } = this.#corrupt;
    for (const file of await findFiles(this.#patterns)) {
      yield* this.#read(file, (line, reason) => {
        const one = { file, line, reason };
        skipped.push(one);
        if (skipped.length > maxCorrupt) {
          throw new AnnealError(
            `${skipped.length} corrupt lines, and ${maxCorrupt} are allowed; the last is ${describe(one)}. ` +
              'Repair the data, or raise maxCorrupt',
          );
        }
        onSkip(one);
      });
    }
  }
}

const describe = ({ file, line, reason }: SkippedLine) => `line ${line} of ${file}: ${reason}`;

function warn(line: SkippedLine): void {
  process.emitWarning(`left out ${describe(line)}`, 'CorpusWarning');
}

async function* readTexts(file: string, separator: string | undefined): AsyncGenerator<TextDocument> {
  let rest = '';
  for await (const piece of readText(file)) {
    // Only where the new piece begins may a separator have been completed.
    const from = Math.max(0, rest.length - (separator?.length ?? 0) + 1);
    rest += piece;
    if (!separator || rest.indexOf(separator, from) < 0) continue;
    const texts = rest.split(separator);
    rest = texts.pop()!;
    for (const text of texts) if (text) yield { text, path: file };
  }
  if (rest) yield { text: rest, path: file };
}

/** A record with the line, or row, that it comes from. */
interface Located {
  record: DataRecord;
  line: number;
}

function readRecords(
  file: string,
  skip: Skip,
  columns: readonly string[] | undefined,
): AsyncIterable<Located> {
  return kindOf(file) === 'jsonl' ? readJsonLines(file, skip) : readParquetRows(file, columns);
}

async function* readJsonLines(file: string, skip: Skip): AsyncGenerator<Located> {
  for await (const { line, number } of readLines(file)) {
    if (!line.trim()) continue;
    let record: unknown;
    try {
      record = JSON.parse(line);
    } catch (error) {
      skip(number, `no JSON (${(error as Error).message})`);
      continue;
    }
    if (typeof record === 'object' && record && !Array.isArray(record))
      yield { record: record as DataRecord, line: number };
    else skip(number, 'no JSON object');
  }
}

async function* readParquetRows(
  file: string,
  columns: readonly string[] | undefined,
): AsyncGenerator<Located> {
  let line = 0;
  for await (const record of readParquet(file, columns)) yield { record, line: ++line };
}

/** Records whose text field is text; others are corrupt in JSONL, and an error in Parquet, which has a schema. */
async function* withText(
  records: AsyncIterable<Located>,
  field: string,
  file: string,
  skip: Skip | undefined,
): AsyncGenerator<TextDocument> {
  for await (const { record, line } of records) {
    const text = record[field];
    if (typeof text === 'string') yield { ...record, text };
    else if (skip) skip(line, `no text in the field "${field}"`);
    else if (text !== null) {
      const names = Object.keys(record).join(', ');
      throw new AnnealError(`${file} has no text in the column "${field}"; its columns are ${names}`);
    }
  }
}
