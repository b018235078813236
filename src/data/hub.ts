import { copyFile, lstat, mkdir, readdir, readFile, symlink } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoint/atomic.js';
import { AnnealError } from '../core/errors.js';
import { matchesAny } from './glob.js';
import { download, type HubFile } from './hub-download.js';

export interface HubOptions {
  /** What kind of repository it is. By default 'dataset'. */
  type?: 'dataset' | 'model';
  /** Branch, tag or commit. A commit pins the data for good. By default 'main'. */
  revision?: string;
  /** Uses what an earlier call has stored, and the network not at all. */
  offline?: boolean;
  /** Where files are kept. By default the folder that Hugging Face's own tools use. */
  cacheDir?: string;
  /** Address of the Hub, or of a mirror. By default https://huggingface.co */
  hubUrl?: string;
  /** For private and gated repositories. */
  accessToken?: string;
}

/** Files of one commit of a repository, on the disk. */
export interface HubSnapshot {
  /** Commit, 40 hexadecimal digits. */
  commit: string;
  folder: string;
  /** Paths inside the folder, sorted. */
  files: string[];
}

export type HubLibrary = typeof import('@huggingface/hub');

async function loadLibrary(): Promise<HubLibrary> {
  try {
    return await import('@huggingface/hub');
  } catch {
    throw new AnnealError(
      'reading from the Hugging Face Hub needs another package: npm install @huggingface/hub',
    );
  }
}

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

function checkName(what: string, name: string): void {
  const isPlain = /^[\w.@+-]+(\/[\w.@+-]+)*$/.test(name) && !name.split('/').includes('..');
  if (!isPlain) throw new AnnealError(`"${name}" is no ${what} of the Hub; one looks like owner/name`);
}

/** Whether a path that a server names stays inside the folder that it is put into. */
const staysInside = (file: string) =>
  !/[\\\0]/.test(file) && file.split('/').every((part) => part !== '' && part !== '.' && part !== '..');

/** Which of a repository's files are wanted. */
export type Choice = (files: string[]) => string[];

/**
 * Files of a repository on the Hugging Face Hub, downloaded unless they are there already. They are kept in the
 * layout that Hugging Face's tools share (blobs, snapshots, refs), so each finds what the other has downloaded.
 * Sizes and hashes are checked; what was broken off goes on where it stopped.
 *
 * @throws AnnealError where the Hub cannot be reached or refuses, and in offline mode for what is not stored
 */
export function hubSnapshot(
  repository: string,
  options: HubOptions & { files?: string | readonly string[] } = {},
): Promise<HubSnapshot> {
  const { files = '**' } = options;
  const patterns = typeof files === 'string' ? [files] : files;
  const choose: Choice = (all) => all.filter((file) => matchesAny(file, patterns));
  return takeSnapshot(repository, options, choose, `that matches ${patterns.join(', ')}`);
}

/** Files of a repository that `choose` picks; `wanted` says which, for the error where there are none. */
export async function takeSnapshot(
  repository: string,
  options: HubOptions,
  choose: Choice,
  wanted: string,
): Promise<HubSnapshot> {
  const { type = 'dataset', revision = 'main', offline = false } = options;
  checkName('repository', repository);
  checkName('revision', revision);
  const library = await loadLibrary();
  const name = `${type}s--${repository.split('/').join('--')}`;
  const root = path.join(options.cacheDir ?? library.getHFHubCachePath(), name);
  const snapshot = offline
    ? await storedSnapshot(root, repository, revision, choose)
    : await freshSnapshot(library, root, repository, choose, { ...options, type, revision });
  if (snapshot.files.length) return snapshot;
  throw new AnnealError(
    `${repository} at ${revision} has no file${offline ? ` stored in ${root}` : ''} ${wanted}`,
  );
}

/** What an earlier call has stored. */
async function storedSnapshot(
  root: string,
  repository: string,
  revision: string,
  choose: Choice,
): Promise<HubSnapshot> {
  const ref = path.join(root, 'refs', revision);
  const commit = isCommit(revision) ? revision : (await readFile(ref, 'utf8').catch(() => '')).trim();
  const folder = path.join(root, 'snapshots', commit);
  const entries =
    commit && isCommit(commit) && (await readdir(folder, { recursive: true }).catch(() => undefined));
  if (!entries) {
    throw new AnnealError(
      `${repository} at ${revision} is not stored in ${root}, and offline mode downloads nothing; run once without it`,
    );
  }
  const names = entries.map((entry) => entry.split(path.sep).join('/')).sort();
  const isFile = await Promise.all(
    names.map(async (name) => !(await lstat(path.join(folder, name))).isDirectory()),
  );
  return { commit, folder, files: choose(names.filter((_, i) => isFile[i])) };
}

async function freshSnapshot(
  library: HubLibrary,
  root: string,
  repository: string,
  choose: Choice,
  options: HubOptions & { type: 'dataset' | 'model'; revision: string },
): Promise<HubSnapshot> {
  const { type, revision, hubUrl, accessToken } = options;
  const access = { ...(hubUrl && { hubUrl }), ...(accessToken && { accessToken }) };
  const repo = { type, name: repository };
  const found = await orExplain(repository, options, async () => {
    const query = { ...access, name: repository, revision, additionalFields: ['sha' as const] };
    const { sha } = await (type === 'dataset' ? library.datasetInfo(query) : library.modelInfo(query));
    const list: HubFile[] = [];
    for await (const entry of library.listFiles({ ...access, repo, recursive: true, revision: sha })) {
      if (entry.type !== 'file' || !staysInside(entry.path)) continue;
      list.push({ path: entry.path, size: entry.size, oid: entry.oid ?? '', sha256: entry.lfs?.oid });
    }
    return { commit: sha, list };
  });
  const { commit } = found;
  const chosen = new Set(choose(found.list.map((file) => file.path).sort()));
  const list = found.list.filter((file) => chosen.has(file.path));
  const folder = path.join(root, 'snapshots', commit);
  for (const file of list) {
    const blob = path.join(root, 'blobs', file.sha256 ?? file.oid);
    await orExplain(repository, options, () =>
      download(library, { ...access, repo, revision: commit, path: file.path }, file, blob),
    );
    await link(path.join(folder, file.path), blob);
  }
  if (!isCommit(revision)) await writeFileAtomically(path.join(root, 'refs', revision), commit);
  return { commit, folder, files: list.map((file) => file.path).sort() };
}

/** Puts a link to a blob at a place in the snapshot, relative as the other tools make it. */
async function link(place: string, blob: string): Promise<void> {
  await mkdir(path.dirname(place), { recursive: true });
  try {
    await symlink(path.relative(path.dirname(place), blob), place);
  } catch (error) {
    // Another process, or an earlier call, has made it.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    // Where links are not allowed (Windows), the snapshot gets a copy.
    await copyFile(blob, place);
  }
}

async function orExplain<T>(repository: string, options: HubOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AnnealError) throw error;
    const { statusCode, message } = error as { statusCode?: number; message: string };
    const hub = options.hubUrl ?? 'https://huggingface.co';
    const { type = 'dataset', revision = 'main' } = options;
    if (statusCode === 401 || statusCode === 403) {
      throw new AnnealError(
        `${hub} refuses access to the ${type} ${repository}; check its name, or pass accessToken`,
      );
    }
    if (statusCode === 404) {
      throw new AnnealError(`${hub} has no ${type} ${repository} at revision ${revision}; check both names`);
    }
    const reason = (error as { cause?: { code?: string } }).cause?.code ?? message;
    throw new AnnealError(
      `the ${type} ${repository} cannot be fetched from ${hub} (${reason}); try again, or use what is stored with offline: true`,
    );
  }
}
