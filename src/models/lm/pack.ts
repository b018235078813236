import type { GgufFile } from '../../checkpoint/gguf.js';
import type { Transformer } from './transformer.js';
import type { PlacedParameter } from './weights.js';

export async function packParameters(
  _model: Transformer,
  _file: GgufFile,
  parameters: PlacedParameter[],
): Promise<PlacedParameter[]> {
  return parameters;
}
