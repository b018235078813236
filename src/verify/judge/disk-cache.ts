import type { ReplyCache } from './cache.js';
import type { ChatReply } from './chat.js';

/** Node's modules, on first use: judging also works in browsers, which have no files. */
const files = async () => ({
  ...(await import('node:fs/promises')),
  ...(await import('../../checkpoint/atomic.js')),
  ...(await import('../../checkpoint/file-source.js')),
});

const format = 'anneal-judge-reply-1';

/** A stored reply, or undefined for what is none: a damaged entry is asked for again and replaced. */
function parseEntry(text: string, key: string): ChatReply | undefined {
  let entry: (Partial<ChatReply> & { format?: string; key?: string }) | null;
  try {
    entry = JSON.parse(text) as typeof entry;
  } catch {
    return undefined;
  }
  if (entry === null) return undefined;
  const { text: reply, finish, promptTokens, replyTokens } = entry;
  const isWhole =
    entry.format === format &&
    entry.key === key &&
    typeof reply === 'string' &&
    (finish === 'stop' || finish === 'length' || finish === 'filtered') &&
    typeof promptTokens === 'number' &&
    typeof replyTokens === 'number';
  return isWhole ? { text: reply, finish, promptTokens, replyTokens, ms: 0, calls: 0 } : undefined;
}

/**
 * Keeps replies as files of a folder, one a reply, named by the hash of what was asked. Files are written whole or
 * not at all, so several processes may share the folder, and one that is killed leaves nothing half-written.
 */
export function diskCache(folder: string): ReplyCache {
  // Folders with a hundred thousand files are slow on some systems.
  const place = (key: string) => `${folder}/${key.slice(0, 2)}/${key}.json`;
  return {
    async get(key) {
      const { readFile, fileError } = await files();
      try {
        return parseEntry(await readFile(place(key), 'utf8'), key);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw fileError('read', place(key), error);
      }
    },
    async set(key, { text, finish, promptTokens, replyTokens }) {
      const { writeFileAtomically } = await files();
      const entry = { format, key, text, finish, promptTokens, replyTokens };
      await writeFileAtomically(place(key), `${JSON.stringify(entry)}\n`);
    },
  };
}
