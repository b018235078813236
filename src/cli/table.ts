/** A cell: numbers are set to the right. */
export type Cell = string | number | undefined;

const textOf = (cell: Cell): string => {
  if (cell === undefined) return '';
  return typeof cell === 'number' ? cell.toLocaleString('en', { maximumFractionDigits: 3 }) : cell;
};

/** Columns under their heads, as wide as their widest cell, two spaces between. No line ends in spaces. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string[] {
  const texts = [head, ...rows.map((row) => row.map(textOf))];
  const widths = head.map((_, column) => Math.max(...texts.map((row) => row[column]!.length)));
  const isNumeric = head.map((_, column) =>
    rows.every((row) => row[column] === undefined || typeof row[column] === 'number'),
  );
  return texts.map((row) =>
    row
      .map((cell, column) =>
        isNumeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  );
}
