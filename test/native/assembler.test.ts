import { describe, expect, it } from 'vitest';
import { Assembler, Label } from '../../src/native/assembler.js';
import { gp } from '../../src/native/instructions.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;

/** Emission, its bytes, and what GNU objdump 2.40 makes of the bytes. */
type Case = [emit: (a: Assembler) => void, bytes: string, disassembly: string];

const evex: readonly Case[] = [
  [(a) => a.vector('add', 1, 2, 3), '62f16c4858cb', 'vaddps zmm1,zmm2,zmm3'],
  [(a) => a.vector('mul', 17, 9, 30), '6281344859ce', 'vmulps zmm17,zmm9,zmm30'],
  [(a) => a.vector('load', 31, 0, { base: rax }), '62617c481038', 'vmovups zmm31,ZMMWORD PTR [rax]'],
  [(a) => a.vector('load', 8, 0, { base: rbp }), '62717c48104500', 'vmovups zmm8,ZMMWORD PTR [rbp+0x0]'],
  [(a) => a.vector('load', 8, 0, { base: r13 }), '62517c48104500', 'vmovups zmm8,ZMMWORD PTR [r13+0x0]'],
  [(a) => a.vector('load', 8, 0, { base: r12 }), '62517c48100424', 'vmovups zmm8,ZMMWORD PTR [r12]'],
  [
    (a) => a.vector('load', 8, 0, { base: rsp, offset: 64 }),
    '62717c4810442401',
    'vmovups zmm8,ZMMWORD PTR [rsp+0x40]',
  ],
  [
    (a) => a.vector('load', 3, 0, { base: r9, index: r15, scale: 4, offset: 128 }),
    '62917c48105cb902',
    'vmovups zmm3,ZMMWORD PTR [r9+r15*4+0x80]',
  ],
  [
    (a) => a.vector('load', 3, 0, { base: r9, offset: -8192 }),
    '62d17c48105980',
    'vmovups zmm3,ZMMWORD PTR [r9-0x2000]',
  ],
  [
    (a) => a.vector('load', 3, 0, { base: r9, offset: 8 }),
    '62d17c48109908000000',
    'vmovups zmm3,ZMMWORD PTR [r9+0x8]',
  ],
  [
    (a) => a.vector('load', 3, 0, { base: r9, offset: 8192 }),
    '62d17c48109900200000',
    'vmovups zmm3,ZMMWORD PTR [r9+0x2000]',
  ],
  [
    (a) => a.vector('store', 19, 0, { base: r8, index: rsi }, { mask: 1 }),
    '62c17c49111c30',
    'vmovups ZMMWORD PTR [r8+rsi*1]{k1},zmm19',
  ],
  [
    (a) => a.vector('load', 4, 0, { base: r8 }, { mask: 1, zero: true }),
    '62d17cc91020',
    'vmovups zmm4{k1}{z},ZMMWORD PTR [r8]',
  ],
  [
    (a) => a.vector('broadcast', 25, 0, { base: rdx, index: rcx, scale: 2, offset: 4 }),
    '62627d48184c4a01',
    'vbroadcastss zmm25,DWORD PTR [rdx+rcx*2+0x4]',
  ],
  [
    (a) => a.vector('fma231', 0, 24, { base: rdi, offset: 12 }, { spread: true }),
    '62f23d50b84703',
    'vfmadd231ps zmm0,zmm24,DWORD BCST [rdi+0xc]',
  ],
  [(a) => a.vector('fma213', 16, 31, 15), '62c20540a8c7', 'vfmadd213ps zmm16,zmm31,zmm15'],
  [(a) => a.vector('fnma231', 1, 2, 3), '62f26d48bccb', 'vfnmadd231ps zmm1,zmm2,zmm3'],
  [(a) => a.vector('fnma213', 1, 2, 3), '62f26d48accb', 'vfnmadd213ps zmm1,zmm2,zmm3'],
  [(a) => a.vector('scale', 5, 6, 7), '62f24d482cef', 'vscalefps zmm5,zmm6,zmm7'],
  [(a) => a.vector('round', 5, 0, 7, { immediate: 8 }), '62f37d4808ef08', 'vrndscaleps zmm5,zmm7,0x8'],
  [
    (a) => a.vector('shuffle128', 5, 6, 7, { immediate: 0x4e }),
    '62f34d4823ef4e',
    'vshuff32x4 zmm5,zmm6,zmm7,0x4e',
  ],
  [(a) => a.vector('permute', 5, 0, 7, { immediate: 0xb1 }), '62f37d4804efb1', 'vpermilps zmm5,zmm7,0xb1'],
  [(a) => a.vector('unpackLow', 20, 21, 22), '62a1544014e6', 'vunpcklps zmm20,zmm21,zmm22'],
  [(a) => a.vector('unpackHighPair', 20, 21, 22), '62a1d54015e6', 'vunpckhpd zmm20,zmm21,zmm22'],
  [
    (a) => a.vector('storeScalar', 9, 0, { base: r14, offset: 4 }, { bits: 128 }),
    '62517e08114e01',
    '{evex} vmovss DWORD PTR [r14+0x4],xmm9',
  ],
  [(a) => a.vector('sqrt', 3, 0, 4), '62f17c4851dc', 'vsqrtps zmm3,zmm4'],
  [(a) => a.vector('div', 3, 4, 5), '62f15c485edd', 'vdivps zmm3,zmm4,zmm5'],
  [(a) => a.vector('min', 3, 4, 5), '62f15c485ddd', 'vminps zmm3,zmm4,zmm5'],
  [
    (a) => a.vector('max', 3, 4, { base: rax }, { spread: true }),
    '62f15c585f18',
    'vmaxps zmm3,zmm4,DWORD BCST [rax]',
  ],
  [(a) => a.vector('xor', 0, 0, 0), '62f17c4857c0', 'vxorps zmm0,zmm0,zmm0'],
  [(a) => a.vector('add', 3, 3, 4, { mask: 1 }), '62f1644958dc', 'vaddps zmm3{k1},zmm3,zmm4'],
  [
    (a) => a.vector('addScalar', 17, 3, { base: r11, offset: 4 }, { bits: 128 }),
    '62c16608584b01',
    'vaddss xmm17,xmm3,DWORD PTR [r11+0x4]',
  ],
  [(a) => a.maskFrom(1, rax), 'c4e17892c8', 'kmovw k1,eax'],
  [(a) => a.maskFrom(3, r10), 'c4c17892da', 'kmovw k3,r10d'],
  [(a) => a.vector('permuteLanes', 18, 30, 18), '62a20d4016d2', 'vpermps zmm18,zmm30,zmm18'],
  [
    (a) => a.vector('fromHalf', 18, 0, { base: r9, offset: 16 }, { bits: 128, mask: 1, zero: true }),
    '62c27d89135102',
    'vcvtph2ps xmm18{k1}{z},QWORD PTR [r9+0x10]',
  ],
  [
    (a) => a.vector('shiftIntsRight', 2, 17, 16, { immediate: 4 }),
    '62b1754072d004',
    'vpsrld zmm17,zmm16,0x4',
  ],
  [
    (a) => a.vector('dotBytes', 19, 16, { base: r11, offset: 64 }),
    '62c27d40505b01',
    'vpdpbusd zmm19,zmm16,ZMMWORD PTR [r11+0x40]',
  ],
  [(a) => a.vector('fromInt', 19, 0, 19), '62a17c485bdb', 'vcvtdq2ps zmm19,zmm19'],
  [
    (a) => a.vector('extractHigh', 4, 0, 5, { bits: 256, immediate: 1 }),
    '62f37d2839e501',
    'vextracti32x4 xmm5,ymm4,0x1',
  ],
  [(a) => a.vector('maxInt', 4, 4, 5, { bits: 256 }), '62f25d283de5', '{evex} vpmaxsd ymm4,ymm4,ymm5'],
  [(a) => a.vector('broadcast', 6, 0, 6, { bits: 256 }), '62f27d2818f6', '{evex} vbroadcastss ymm6,xmm6'],
];

const vexAndGeneral: readonly Case[] = [
  [(a) => a.vector('add', 1, 2, 3), 'c4e16c58cb', 'vaddps ymm1,ymm2,ymm3'],
  [(a) => a.vector('mul', 9, 10, 15), 'c4412c59cf', 'vmulps ymm9,ymm10,ymm15'],
  [
    (a) => a.vector('load', 12, 0, { base: r13, index: r14, scale: 8, offset: 32 }),
    'c4017c1064f520',
    'vmovups ymm12,YMMWORD PTR [r13+r14*8+0x20]',
  ],
  [(a) => a.vector('store', 3, 0, { base: rsp }), 'c4e17c111c24', 'vmovups YMMWORD PTR [rsp],ymm3'],
  [
    (a) => a.vector('maskLoad', 3, 15, { base: rsi, offset: -4 }),
    'c4e2052c5efc',
    'vmaskmovps ymm3,ymm15,YMMWORD PTR [rsi-0x4]',
  ],
  [
    (a) => a.vector('maskStore', 3, 15, { base: rsi, offset: 300 }),
    'c4e2052e9e2c010000',
    'vmaskmovps YMMWORD PTR [rsi+0x12c],ymm15,ymm3',
  ],
  [(a) => a.vector('blend', 1, 2, 3, { immediate: 0xf0 }), 'c4e36d4acbf0', 'vblendvps ymm1,ymm2,ymm3,ymm15'],
  [(a) => a.vector('permute128', 1, 2, 3, { immediate: 1 }), 'c4e36d06cb01', 'vperm2f128 ymm1,ymm2,ymm3,0x1'],
  [(a) => a.vector('toInt', 8, 0, 9), 'c4417d5bc1', 'vcvtps2dq ymm8,ymm9'],
  [(a) => a.vector('addInt', 8, 9, 10), 'c44135fec2', 'vpaddd ymm8,ymm9,ymm10'],
  [(a) => a.shiftLanesLeft(8, 9, 23), 'c4c13d72f117', 'vpslld ymm8,ymm9,0x17'],
  [(a) => a.vector('round', 5, 0, 7, { immediate: 8 }), 'c4e37d08ef08', 'vroundps ymm5,ymm7,0x8'],
  [(a) => a.vector('broadcast', 5, 0, { base: rbx }), 'c4e27d182b', 'vbroadcastss ymm5,DWORD PTR [rbx]'],
  [(a) => a.vector('fma231', 5, 6, { base: r11 }), 'c4c24db82b', 'vfmadd231ps ymm5,ymm6,YMMWORD PTR [r11]'],
  [
    (a) => a.vector('storeScalar', 9, 0, { base: r14, offset: 4 }, { bits: 128 }),
    'c4417a114e04',
    'vmovss DWORD PTR [r14+0x4],xmm9',
  ],
  [
    (a) => a.vector('addScalar', 9, 3, { base: r11, offset: 4 }, { bits: 128 }),
    'c44162584b04',
    'vaddss xmm9,xmm3,DWORD PTR [r11+0x4]',
  ],
  [(a) => a.prefetch({ base: r9, offset: 64 }), '410f184940', 'prefetcht0 BYTE PTR [r9+0x40]'],
  [(a) => a.prefetch({ base: rax, index: r8, scale: 4 }), '420f180c80', 'prefetcht0 BYTE PTR [rax+r8*4]'],
  [(a) => a.prefetch({ base: r9, offset: 64 }, true), '410f184140', 'prefetchnta BYTE PTR [r9+0x40]'],
  [(a) => a.copyWords(), 'f348a5', 'rep movs QWORD PTR es:[rdi],QWORD PTR ds:[rsi]'],
  [(a) => a.zeroUpper(), 'c5f877', 'vzeroupper'],
  [(a) => a.mov(rax, r15), '498bc7', 'mov rax,r15'],
  [(a) => a.mov(r9, { base: rsp, offset: 8 }), '4c8b4c2408', 'mov r9,QWORD PTR [rsp+0x8]'],
  [
    (a) => a.store({ base: r12, index: rbx, scale: 8, offset: 256 }, r10),
    '4d8994dc00010000',
    'mov QWORD PTR [r12+rbx*8+0x100],r10',
  ],
  [(a) => a.lea(r10, { base: r8, index: r8, scale: 2 }), '4f8d1440', 'lea r10,[r8+r8*2]'],
  [(a) => a.add(rsi, rdx), '4803f2', 'add rsi,rdx'],
  [(a) => a.sub(r11, { base: rbp }), '4c2b5d00', 'sub r11,QWORD PTR [rbp+0x0]'],
  [(a) => a.cmp(rax, { base: r13 }), '493b4500', 'cmp rax,QWORD PTR [r13+0x0]'],
  [(a) => a.test(r8, r9), '4d85c1', 'test r9,r8'],
  [(a) => a.imul(r10, rsi), '4c0fafd6', 'imul r10,rsi'],
  [(a) => a.imul(rcx, { base: rsp, offset: 16 }), '480faf4c2410', 'imul rcx,QWORD PTR [rsp+0x10]'],
  [(a) => a.movIf('less', rdx, rax), '480f4cd0', 'cmovl rdx,rax'],
  [(a) => a.divide({ base: rsp, offset: 16 }), '48f7742410', 'div QWORD PTR [rsp+0x10]'],
  [(a) => a.addImmediate(rsp, -56), '4883c4c8', 'add rsp,0xffffffffffffffc8'],
  [(a) => a.addImmediate(r12, 4096), '4981c400100000', 'add r12,0x1000'],
  [(a) => a.andImmediate(rcx, -8), '4883e1f8', 'and rcx,0xfffffffffffffff8'],
  [(a) => a.cmpImmediate(rdx, 1), '4883fa01', 'cmp rdx,0x1'],
  [(a) => a.shiftLeft(r10, 2), '49c1e202', 'shl r10,0x2'],
  [(a) => a.shiftRight(rcx, 2), '48c1e902', 'shr rcx,0x2'],
  [(a) => a.shiftRightByCl(rax), '48d3e8', 'shr rax,cl'],
  [(a) => a.movImmediate(r9, 0x123456789abcdef0n), '49b9f0debc9a78563412', 'movabs r9,0x123456789abcdef0'],
  [(a) => a.zero(r14), '4d33f6', 'xor r14,r14'],
  [(a) => a.push(r12), '4154', 'push r12'],
  [(a) => a.push(rbx), '53', 'push rbx'],
  [(a) => a.pop(r15), '415f', 'pop r15'],
  [(a) => a.call(rax), 'ffd0', 'call rax'],
  [(a) => a.call(r11), '41ffd3', 'call r11'],
  [(a) => a.ret(), 'c3', 'ret'],
  [(a) => a.vector('packInts', 0, 1, 9), 'c4c1756bc1', 'vpackssdw ymm0,ymm1,ymm9'],
  [(a) => a.vector('packWords', 0, 1, 9), 'c4c17563c1', 'vpacksswb ymm0,ymm1,ymm9'],
  [(a) => a.vector('shuffleBytes', 0, 1, 11), 'c4c27500c3', 'vpshufb ymm0,ymm1,ymm11'],
  [(a) => a.vector('unpackLowWords', 2, 0, 1, { bits: 128 }), 'c4e17961d1', 'vpunpcklwd xmm2,xmm0,xmm1'],
  [(a) => a.vector('unpackHighWords', 2, 0, 1, { bits: 128 }), 'c4e17969d1', 'vpunpckhwd xmm2,xmm0,xmm1'],
  [(a) => a.vector('mulAddBytes', 4, 12, 0), 'c4e21d04e0', 'vpmaddubsw ymm4,ymm12,ymm0'],
  [(a) => a.vector('mulAddWords', 4, 4, 13), 'c4c15df5e5', 'vpmaddwd ymm4,ymm4,ymm13'],
  [(a) => a.vector('addWords', 4, 4, 5), 'c4e15dfde5', 'vpaddw ymm4,ymm4,ymm5'],
  [(a) => a.vector('absBytes', 9, 0, 8), 'c4427d1cc8', 'vpabsb ymm9,ymm8'],
  [(a) => a.vector('signBytes', 11, 11, 8), 'c4422508d8', 'vpsignb ymm11,ymm11,ymm8'],
  [(a) => a.vector('shiftIntsRight', 2, 9, 8, { immediate: 4 }), 'c4c13572d004', 'vpsrld ymm9,ymm8,0x4'],
  [(a) => a.vector('permuteLanes', 10, 13, 10), 'c4421516d2', 'vpermps ymm10,ymm13,ymm10'],
  [
    (a) => a.vector('loadPair', 10, 0, { base: r9, offset: 8 }, { bits: 128 }),
    'c4417b105108',
    'vmovsd xmm10,QWORD PTR [r9+0x8]',
  ],
  [
    (a) => a.vector('loadScalar', 10, 0, { base: r9 }, { bits: 128 }),
    'c4417a1011',
    'vmovss xmm10,DWORD PTR [r9]',
  ],
  [
    (a) => a.vector('broadcastWord', 10, 0, { base: r9 }, { bits: 128 }),
    'c442797911',
    'vpbroadcastw xmm10,WORD PTR [r9]',
  ],
  [(a) => a.vector('fromHalf', 10, 0, 10, { bits: 128 }), 'c4427913d2', 'vcvtph2ps xmm10,xmm10'],
  [(a) => a.vector('extractHigh', 9, 0, 5, { immediate: 1 }), 'c4637d39cd01', 'vextracti128 xmm5,ymm9,0x1'],
];

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('encoder', () => {
  it.each(evex)('EVEX: %s → %s %s', (emit, bytes) => {
    const a = new Assembler('avx512');
    emit(a);
    expect(hex(a.finish())).toBe(bytes);
  });

  it.each(vexAndGeneral)('VEX and general: %s → %s %s', (emit, bytes) => {
    const a = new Assembler('avx2');
    emit(a);
    expect(hex(a.finish())).toBe(bytes);
  });

  it('fills in jumps and addresses, forwards and backwards', () => {
    const a = new Assembler('avx2');
    const start = a.here();
    const end = a.label();
    a.jump(start);
    a.jumpIf('notLess', start);
    a.vector('load', 1, 0, { at: end });
    // The displacement counts from the end of the instruction, the immediate included.
    a.vector('blend', 1, 2, { at: end }, { immediate: 0xf0 });
    a.bind(end);
    expect(hex(a.finish())).toBe(
      'e9fbffffff' + '0f8df5ffffff' + 'c4e17c100d0a000000' + 'c4e36d4a0d00000000f0',
    );
  });

  it('refuses registers that an encoding lacks, and labels that lead nowhere', () => {
    expect(() => new Assembler('avx2').vector('add', 16, 0, 0)).toThrow('no vector register 16');
    expect(() => new Assembler('avx512').vector('add', 0, 32, 0)).toThrow('no vector register 32');
    expect(() => new Assembler('avx2').vector('add', 0, 0, 0, { mask: 1 })).toThrow('not in VEX');
    expect(() => new Assembler('avx2').mov(rax, { base: rax, index: rsp })).toThrow('rsp cannot be an index');
    const a = new Assembler('avx2');
    a.jump(new Label());
    expect(() => a.finish()).toThrow('never bound');
    const label = a.here();
    expect(() => a.bind(label)).toThrow('bound twice');
  });
});
