/** Longest line that a channel may carry before it is handed on as it is: 64 MiB. */
const longest = 2 ** 26;

/** Splits a stream of bytes into lines. A line without an end is handed on once it is too long to be honest. */
export function lineReader(onLine: (line: string) => void): (data: Buffer) => void {
  let parts: Buffer[] = [];
  let size = 0;
  return (data) => {
    let rest = data;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      parts.push(rest.subarray(0, end));
      const line = Buffer.concat(parts).toString('utf8');
      parts = [];
      size = 0;
      rest = rest.subarray(end + 1);
      onLine(line);
    }
    if (rest.length === 0) return;
    parts.push(rest);
    size += rest.length;
    // Held no longer: a line without an end must not fill the memory of the process that watches.
    if (size <= longest) return;
    onLine(Buffer.concat(parts).toString('latin1'));
    parts = [];
    size = 0;
  };
}
