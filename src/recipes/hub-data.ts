/** Data of recipes by address: files of this machine, or datasets of the Hugging Face Hub. */
import { z } from 'zod';
import {
  type DataRecord,
  type DataSource,
  documents,
  type FieldOptions,
  type HubDataOptions,
  hubDocuments,
  hubRecords,
  type RecordOptions,
  records,
  type TextDocument,
} from '../data/node.js';
import { AnnealError } from '../index.js';
import { section } from './settings.js';

/** One place or several. */
export const dataSetting = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]);

/** How `hf://` addresses are read. */
export const hubSettings = section({
  split: z.string().min(1).optional().describe('files in whose path this is a word, such as train'),
  offline: z.boolean().default(false).describe('use what is on this machine already, and no network'),
  url: z.string().min(1).optional().describe('address of a mirror of the Hub'),
  cache: z.string().min(1).optional().describe('folder of downloads (default: that of Hugging Face)'),
});

/** Resolved settings of the Hub. */
export type HubSettings = z.output<typeof hubSettings>;

/** A dataset on the Hub. */
export interface HubAddress {
  /** owner/name */
  repository: string;
  /** Branch, tag or commit. */
  revision?: string;
  /** A file of it, or a pattern. */
  files?: string;
}

/**
 * Takes apart `hf://datasets/owner/name[@revision][/path or pattern]`, the way in which Hugging Face's tools write it.
 * @returns undefined for anything that does not begin with hf://
 * @throws AnnealError if the rest is no address of a dataset
 */
export function parseHubAddress(address: string): HubAddress | undefined {
  if (!address.startsWith('hf://')) return undefined;
  const [, repository, revision, files] =
    /^hf:\/\/datasets\/([^/@]+\/[^/@]+)(?:@([^/]+))?(?:\/(.+))?$/.exec(address) ?? [];
  if (repository === undefined)
    throw new AnnealError(
      `"${address}" is no dataset of the Hub; write hf://datasets/owner/name, with @revision and /file after it if you like`,
    );
  // A revision such as refs/convert/parquet has its slashes encoded.
  return {
    repository,
    ...(revision !== undefined && { revision: decodeURIComponent(revision) }),
    ...(files !== undefined && { files }),
  };
}

/** Addresses in their order: runs of files together, so that a file that two patterns name is read once. */
function placesOf(data: string | readonly string[]): (HubAddress | string[])[] {
  const places: (HubAddress | string[])[] = [];
  for (const one of typeof data === 'string' ? [data] : data) {
    const address = parseHubAddress(one);
    const last = places.at(-1);
    if (address) places.push(address);
    else if (Array.isArray(last)) last.push(one);
    else places.push([one]);
  }
  return places;
}

const optionsOf = (
  { revision, files }: HubAddress,
  { split, offline, url, cache }: HubSettings,
): HubDataOptions => ({
  offline,
  ...(revision !== undefined && { revision }),
  ...(files !== undefined && { files }),
  ...(split !== undefined && { split }),
  ...(url !== undefined && { hubUrl: url }),
  ...(cache !== undefined && { cacheDir: cache }),
});

/** Documents of files and datasets, one place after another. */
export function documentsAt(
  data: string | readonly string[],
  hub: HubSettings,
  options: FieldOptions = {},
): DataSource<TextDocument>[] {
  return placesOf(data).map((place) =>
    Array.isArray(place)
      ? documents(place, options)
      : hubDocuments(place.repository, { ...options, ...optionsOf(place, hub) }),
  );
}

/** Records of files and datasets, one place after another. */
export function recordsAt(
  data: string | readonly string[],
  hub: HubSettings,
  options: RecordOptions = {},
): DataSource<DataRecord>[] {
  return placesOf(data).map((place) =>
    Array.isArray(place)
      ? records(place, options)
      : hubRecords(place.repository, { ...options, ...optionsOf(place, hub) }),
  );
}
