import { recipes as listings, loadRecipe } from '../../recipes/index.js';
import { settingsOf } from '../../recipes/settings.js';
import type { Cli } from '../terminal.js';

const defaultText = (value: unknown, required: boolean): string => {
  if (required) return 'must be given';
  return value === undefined ? '' : JSON.stringify(value);
};

async function showOne(cli: Cli, name: string, json: boolean | undefined): Promise<void> {
  const { summary, config, defaults } = await loadRecipe(name);
  const settings = settingsOf(config, defaults);
  if (json) {
    cli.terminal.json({ name, summary, settings });
    return;
  }
  cli.terminal.print(`${name}: ${summary}\n`);
  const rows = settings.map((s) => [
    s.path,
    defaultText(s.default, s.required),
    `${s.description} (${s.type})`,
  ]);
  const widths = [0, 1].map((column) => Math.min(36, Math.max(...rows.map((row) => row[column]!.length))));
  for (const [path, value, description] of rows as [string, string, string][]) {
    cli.terminal.print(`  ${path.padEnd(widths[0]!)}  ${value.padEnd(widths[1]!)}  ${description}`);
  }
}

/** `anneal recipes [NAME]`. */
export async function recipes(this: Cli, { json }: { json?: boolean }, name?: string): Promise<void> {
  if (name !== undefined) return showOne(this, name, json);
  const list = Object.entries(listings).map(([key, { summary }]) => ({ name: key, summary }));
  if (json) {
    this.terminal.json(list);
    return;
  }
  const width = Math.max(...list.map((one) => one.name.length));
  for (const one of list) this.terminal.print(`${one.name.padEnd(width)}  ${one.summary}`);
  this.terminal.print('\n`anneal recipes NAME` shows the settings, `anneal run NAME key=value …` runs it.');
}
