import path from 'node:path';
import { matchesAny } from './glob.js';
import { type Choice, type HubOptions, takeSnapshot } from './hub.js';
import {
  type DataRecord,
  type DataSource,
  documents,
  type FieldOptions,
  kindOf,
  type RecordOptions,
  records,
  type TextDocument,
} from './sources.js';

export interface HubDataOptions extends HubOptions {
  /** Which files, as paths or patterns. By default all with data; where some are Parquet, those alone. */
  files?: string | readonly string[];
  /** Takes the files in whose path this is a word, as in data/train-00000-of-00002.parquet. */
  split?: string;
}

/** Documents of a dataset on the Hub: its Parquet, JSONL and text files, as `documents` reads them. */
export function hubDocuments(
  repository: string,
  options: HubDataOptions & FieldOptions = {},
): DataSource<TextDocument> {
  return new HubSource(repository, options, (files) => documents(files, options));
}

/** Records of a dataset on the Hub, as `records` reads them. */
export function hubRecords(
  repository: string,
  options: HubDataOptions & RecordOptions = {},
): DataSource<DataRecord> {
  return new HubSource(repository, options, (files) => records(files, options));
}

const dataFiles = ['**/*.{parquet,jsonl,jsonl.gz,ndjson,ndjson.gz,txt,txt.gz}'];

/** The data files of a repository, of one split or of all. */
function chooseData({ files, split }: HubDataOptions): Choice {
  const patterns = files === undefined ? dataFiles : typeof files === 'string' ? [files] : files;
  return (all) => {
    const matching = all.filter((file) => matchesAny(file, patterns));
    const ofSplit = split === undefined ? matching : matching.filter((file) => wordsOf(file).includes(split));
    // Some repositories have the same data in several formats.
    const parquet = files === undefined ? ofSplit.filter((file) => kindOf(file) === 'parquet') : [];
    return parquet.length ? parquet : ofSplit;
  };
}

/** Parts of a path: data/train-00000-of-00002.parquet has data, train, 00000, … */
const wordsOf = (file: string) => file.split(/[/._-]/);

class HubSource<T> implements DataSource<T> {
  #opened: Promise<DataSource<T>> | undefined;
  #source: DataSource<T> | undefined;

  constructor(
    readonly repository: string,
    readonly options: HubDataOptions,
    readonly read: (files: string[]) => DataSource<T>,
  ) {}

  get skipped() {
    return this.#source?.skipped ?? [];
  }

  async fingerprint(): Promise<string> {
    return (await this.#open()).fingerprint();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    yield* await this.#open();
  }

  /** The snapshot is taken once: a branch that moves on does not change data that are being read. */
  #open(): Promise<DataSource<T>> {
    this.#opened ??= this.#take().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #take(): Promise<DataSource<T>> {
    const { repository, options } = this;
    const { split } = options;
    const wanted = split === undefined ? 'with data' : `with data of the split "${split}"`;
    const { folder, files } = await takeSnapshot(repository, options, chooseData(options), wanted);
    this.#source = this.read(files.map((file) => path.join(folder, file)));
    return this.#source;
  }
}
