import { randomBytes } from 'node:crypto';
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { fileError } from '../checkpoint/file-source.js';
import { AnnealError } from '../core/errors.js';

/** Who holds a lock. Process numbers are used again, so the time of the process's start belongs to its name. */
interface Holder {
  pid: number;
  /** Clock ticks since the machine started, where the system tells (Linux); else empty. */
  started: string;
  /** Machine and, on Linux, its current start. */
  host: string;
}

async function textOf(file: string): Promise<string> {
  return readFile(file, 'utf8').catch(() => '');
}

/** Field 22 of /proc/<pid>/stat; the command before it may hold spaces and brackets, but ends at the last one. */
async function startOf(pid: number): Promise<string> {
  const stat = await textOf(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

async function thisHost(): Promise<string> {
  return `${hostname()} ${(await textOf('/proc/sys/kernel/random/boot_id')).trim()}`.trim();
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it exists and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function isAlive(holder: Holder): Promise<boolean> {
  const host = await thisHost();
  // Another machine's processes cannot be seen from here; the same machine's died with its last start.
  if (holder.host !== host) return holder.host.split(' ')[0] !== host.split(' ')[0];
  if (!exists(holder.pid)) return false;
  return holder.started === '' || holder.started === (await startOf(holder.pid));
}

function parse(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Holder;
    return Number.isInteger(holder.pid) ? holder : undefined;
  } catch {
    return undefined;
  }
}

function refused(directory: string, { pid, host }: Holder, isHere: boolean): AnnealError {
  if (isHere) {
    return new AnnealError(
      `${directory} is being written by process ${pid}; wait for it, stop it, or choose another directory`,
    );
  }
  return new AnnealError(
    `${directory} is being written by process ${pid} on ${host.split(' ')[0]}, which cannot be seen from here; ` +
      `if that process is gone, delete ${path.join(directory, 'lock')}`,
  );
}

/** Moves a dead process's lock out of the way, unless somebody else was faster. */
async function removeStale(file: string, content: string, aside: string): Promise<void> {
  try {
    await rename(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  // Between reading and moving another process may have taken the lock: then it gets it back.
  if ((await textOf(aside)) !== content) await link(aside, file).catch(() => undefined);
  await unlink(aside);
}

/**
 * Takes the directory for this process. The lock names process and start time, so that it ends with the process,
 * however it dies.
 * @returns gives the lock back; idempotent.
 * @throws AnnealError that names the other process if a living one has it.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const file = path.join(directory, 'lock');
  const own = JSON.stringify({
    pid: process.pid,
    started: await startOf(process.pid),
    host: await thisHost(),
    // Tells two locks of one process apart.
    id: randomBytes(6).toString('hex'),
  });
  // A link to a complete file appears at once, with its content: a lock is never half-written.
  const candidate = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    await writeFile(candidate, own, { flag: 'wx' });
  } catch (error) {
    throw fileError('write', candidate, error);
  }
  try {
    for (;;) {
      try {
        await link(candidate, file);
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw fileError('lock', directory, error);
      }
      const content = await textOf(file);
      const holder = parse(content);
      if (holder && (await isAlive(holder))) {
        throw refused(directory, holder, holder.host === (await thisHost()));
      }
      await removeStale(file, content, `${candidate}.stale`);
    }
  } finally {
    await unlink(candidate).catch(() => undefined);
  }
  return async () => {
    if ((await textOf(file)) === own) await unlink(file).catch(() => undefined);
  };
}
