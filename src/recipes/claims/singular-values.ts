/** Sweeps after which every matrix has converged; ten are usual. */
const mostSweeps = 60;

/**
 * Singular values of a row-major [rows, columns] matrix in float64, largest first, by one-sided Jacobi rotations (Hestenes
 * 1958): pairs of vectors along the shorter side are turned until all are orthogonal; their lengths are the values. Small values
 * are exact relative to the largest, as a Gram matrix's eigenvalues would not be.
 */
export function singularValues(data: ArrayLike<number>, rows: number, columns: number): number[] {
  const isTall = rows > columns;
  const count = Math.min(rows, columns);
  const vectors = Array.from({ length: count }, (_, i) =>
    Float64Array.from(
      { length: Math.max(rows, columns) },
      (_, j) => data[isTall ? j * columns + i : i * columns + j]!,
    ),
  );
  for (let sweep = 0; sweep < mostSweeps; sweep++) {
    let isDone = true;
    for (let i = 0; i < count; i++)
      for (let j = i + 1; j < count; j++) if (rotate(vectors[i]!, vectors[j]!)) isDone = false;
    if (isDone) break;
  }
  return vectors.map((v) => Math.sqrt(dot(v, v))).sort((a, b) => b - a);
}

function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

/** Turns two vectors in their plane until they are orthogonal. @returns false if they are already */
function rotate(x: Float64Array, y: Float64Array): boolean {
  const [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)];
  if (Math.abs(xy) <= 1e-15 * Math.sqrt(xx * yy)) return false;
  const zeta = (yy - xx) / (2 * xy);
  const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
  const cosine = 1 / Math.sqrt(1 + tangent * tangent);
  const sine = cosine * tangent;
  for (let i = 0; i < x.length; i++) {
    const [a, b] = [x[i]!, y[i]!];
    x[i] = cosine * a - sine * b;
    y[i] = sine * a + cosine * b;
  }
  return true;
}
