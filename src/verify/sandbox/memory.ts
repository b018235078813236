/** Watching what a process holds, where no limit of the system's does it. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';

/** Bytes of a page in /proc: 4 KiB wherever Node's binaries run, except 16 KiB or 64 KiB on some ARM machines. */
const pageBytes = 4096;

/** Resident bytes of a process, or undefined where it has ended. */
export async function residentBytes(pid: number): Promise<number | undefined> {
  if (process.platform === 'linux') {
    try {
      const fields = (await readFile(`/proc/${pid}/statm`, 'utf8')).split(' ');
      return Number(fields[1]) * pageBytes;
    } catch {
      return undefined;
    }
  }
  return new Promise((resolve) => {
    execFile('ps', ['-o', 'rss=', '-p', String(pid)], (error, stdout) =>
      resolve(error ? undefined : Number(stdout.trim()) * 1024),
    );
  });
}

/**
 * Watches what a process holds in memory and reports once when it is over the limit. Returns the function that
 * stops watching.
 */
export function watchMemory(
  pid: number,
  limitBytes: number,
  onExceeded: (bytes: number) => void,
): () => void {
  // A process can fill about 100 MB in this time.
  const everyMs = process.platform === 'linux' ? 30 : 200;
  let stopped = false;
  const look = async () => {
    const bytes = await residentBytes(pid);
    if (stopped || bytes === undefined) return;
    if (bytes > limitBytes) {
      stopped = true;
      onExceeded(bytes);
    } else timer = setTimeout(look, everyMs).unref();
  };
  let timer = setTimeout(look, everyMs).unref();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
