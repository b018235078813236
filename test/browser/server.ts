import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

const types: Readonly<Record<string, string>> = {
  '.mjs': 'text/javascript',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** Folders of the repository that pages may read. */
const served = ['/dist/', '/node_modules/onnxruntime-web/dist/', '/test/browser/'];

const runtime = '/node_modules/onnxruntime-web/dist';

const mapOf = (packages: Readonly<Record<string, string>>) => ({
  imports: { anneal: '/dist/browser.js', ...packages },
});

const slim = mapOf({
  'onnxruntime-web': `${runtime}/ort.wasm.min.mjs`,
  'onnxruntime-web/webgpu': `${runtime}/ort.webgpu.min.mjs`,
});

/** The pages by path, with the import map of each. */
const pages: Readonly<Record<string, object>> = {
  '/': slim,
  '/shared': slim,
  // The files that the package's own export map names, which bundlers take.
  '/bundled': mapOf({
    'onnxruntime-web': `${runtime}/ort.bundle.min.mjs`,
    'onnxruntime-web/webgpu': `${runtime}/ort.webgpu.bundle.min.mjs`,
  }),
  '/bare': mapOf({}),
};

const pageOf = (imports: object) =>
  '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">' +
  `<script type="importmap">${JSON.stringify(imports)}</script>`;

/** A running server. */
export interface Site {
  origin: string;
  close(): Promise<void>;
}

/**
 * Serves the built library and its pages on 127.0.0.1. All are cross-origin isolated but `/shared`; `/bare` has
 * no ONNX Runtime.
 */
export async function serve(): Promise<Site> {
  const server = createServer(async ({ url = '/' }, response) => {
    const { pathname } = new URL(url, 'http://localhost');
    if (pathname !== '/shared') {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    const imports = pages[pathname];
    if (imports) {
      response.setHeader('Content-Type', 'text/html').end(pageOf(imports));
      return;
    }
    const type = types[path.extname(pathname)];
    // URL() has resolved every '..' by now.
    if (!type || !served.some((folder) => pathname.startsWith(folder))) {
      response.writeHead(404).end();
      return;
    }
    try {
      const body = await readFile(path.join(root, pathname));
      response.setHeader('Content-Type', type).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
