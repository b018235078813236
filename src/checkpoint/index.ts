export { type ByteSink, writeAtomically, writeFileAtomically } from './atomic.js';
export { type ElementType, toBfloat16, toFloat32 } from './element-types.js';
export { dequantize, type GgmlType } from './ggml.js';
export { GgufFile, type GgufTensor, openGguf } from './gguf.js';
export {
  encodeOnnx,
  exportOnnx,
  type OnnxExport,
  type OnnxInput,
  type OnnxOptions,
  traceOnnx,
  writeOnnx,
} from './onnx-export.js';
export { SafetensorsFile, type StoredTensor } from './safetensors.js';
export { openSafetensors, openSafetensorsFile, writeSafetensors } from './safetensors-files.js';
export { type ByteSource, memorySource } from './source.js';
export { entryOf, type TensorEntry } from './tensor-entry.js';
export type { TensorReader } from './tensor-file.js';
