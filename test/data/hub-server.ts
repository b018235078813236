import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Commit {
  sha: string;
  /** Contents by path; those with `lfs` are listed as large files. */
  files: Record<string, { content: Uint8Array; lfs?: boolean }>;
}

/** A server on this machine that speaks the URLs of the Hugging Face Hub, for one dataset and one model. */
export class HubServer {
  readonly commits: Commit[] = [];
  /** Names of revisions. */
  readonly refs: Record<string, string> = {};
  /** Requests so far: method, path and range. */
  readonly requests: string[] = [];
  /** Token that is asked for, if any. */
  token: string | undefined;
  /** Ends the connection after so many bytes of a file, once. */
  cutAfter: number | undefined;
  /** Sends other bytes than it lists. */
  corrupt = false;
  readonly #server = createServer((request, response) => this.#answer(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Downloads of files so far. */
  get downloads(): string[] {
    return this.requests.filter((one) => one.includes('/resolve/') && !one.endsWith('bytes=0-0'));
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = new URL(request.url!, 'http://hub');
    this.requests.push(
      `${request.method} ${decodeURIComponent(url.pathname)} ${request.headers.range ?? ''}`.trim(),
    );
    const fail = (status: number, error: string, headers = {}) => {
      response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
      response.end(JSON.stringify({ error }));
    };
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`)
      return fail(401, 'Invalid username or password.');
    const path = decodeURIComponent(url.pathname);
    const [, kind] = /^(?:\/api\/(datasets|models))?/.exec(path)!;
    const info = /^\/api\/(?:datasets|models)\/(owner\/name)\/revision\/(.+)$/.exec(path);
    const tree = /^\/api\/(?:datasets|models)\/(owner\/name)\/tree\/(.+)$/.exec(path);
    const file = /^\/(?:datasets\/)?(owner\/name)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const commit = this.#commit((info ?? tree ?? file)?.[2]);
    if (!commit) return fail(404, 'Repository not found', { 'X-Error-Code': 'RepoNotFound' });
    const json = (body: unknown, headers = {}) => {
      response.writeHead(200, { 'Content-Type': 'application/json', ...headers });
      response.end(JSON.stringify(body));
    };
    if (info)
      return json({
        _id: '1',
        id: 'owner/name',
        sha: commit.sha,
        kind,
        lastModified: '2025-01-01T00:00:00Z',
      });
    if (tree) return this.#list(commit, url, json);
    const content = commit.files[file![3]!]?.content;
    if (!content) return fail(404, 'Entry not found', { 'X-Error-Code': 'EntryNotFound' });
    return this.#send(content, request, response);
  }

  #commit(revision: string | undefined): Commit | undefined {
    return this.commits.find(({ sha }) => sha === revision || sha === this.refs[revision ?? '']);
  }

  /** Two entries a page, as the Hub lists a thousand. */
  #list(commit: Commit, url: URL, json: (body: unknown, headers?: object) => void): unknown {
    const entries = Object.entries(commit.files).map(([path, { content, lfs }]) => ({
      type: 'file',
      path,
      size: content.length,
      oid: createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex'),
      ...(lfs && {
        lfs: {
          oid: createHash('sha256').update(content).digest('hex'),
          size: content.length,
          pointerSize: 1,
        },
      }),
    }));
    const cursor = Number(url.searchParams.get('cursor') ?? 0);
    const page = [{ type: 'directory', path: 'data', oid: '', size: 0 }, ...entries].slice(
      cursor,
      cursor + 2,
    );
    if (cursor + 2 > entries.length) return json(page);
    const next = new URL(
      url.pathname + url.search,
      `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`,
    );
    next.searchParams.set('cursor', String(cursor + 2));
    return json(page, { Link: `<${next.href}>; rel="next"` });
  }

  #send(content: Uint8Array, request: IncomingMessage, response: ServerResponse): void {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const from = Number(range?.[1] ?? 0);
    const to = Math.min(content.length, range?.[2] ? Number(range[2]) + 1 : content.length);
    const body = Buffer.from(content.subarray(from, to));
    if (this.corrupt && body.length > 1) body[0]! ^= 1;
    response.writeHead(range ? 206 : 200, {
      ETag: `"${createHash('md5').update(content).digest('hex')}"`,
      'Content-Length': body.length,
      ...(range && { 'Content-Range': `bytes ${from}-${to - 1}/${content.length}` }),
    });
    if (this.cutAfter === undefined || body.length <= this.cutAfter) {
      response.end(body);
      return;
    }
    response.write(body.subarray(0, this.cutAfter), () => setTimeout(() => response.destroy(), 20));
    this.cutAfter = undefined;
  }
}
