import { existsSync, readFileSync } from 'node:fs';

/** What an earlier session finished, one JSON object a line; a line that was cut off counts as none. */
export function readCells<Cell>(file: string): Cell[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return line === '' ? [] : [JSON.parse(line) as Cell];
      } catch {
        return [];
      }
    });
}
