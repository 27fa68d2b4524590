import { describe, expect, test } from 'vitest';
import { formatIndexAnnotation, parseIndexAnnotation } from './annotation.ts';
import { digestOf } from './digest.ts';
import { CheckpointError } from './error.ts';

const location = { blob: digestOf('blob'), offset: 2048, length: 77, digest: digestOf('index') };
const good = formatIndexAnnotation(location);

describe('index annotation', () => {
  test('is read back as it was written', () => {
    expect(good).toBe(`v1,${location.blob},2048,77,${location.digest}`);
    expect(parseIndexAnnotation(good)).toEqual(location);
  });

  test.each([
    ['', 'version ""'],
    [good.replace('v1', 'v2'), 'use a newer thaw'],
    [`${good},x`, 'too many'],
    [good.split(',').slice(0, 4).join(','), 'too few'],
    [good.replace('sha256', 'sha512'), 'digest'],
    [good.toUpperCase().replace('V1', 'v1'), 'digest'],
    [good.replace(',77,', ',0,'), 'length'],
    [good.replace(',77,', ',-1,'), 'not a number'],
    [good.replace(',77,', ',1e3,'), 'not a number'],
    [good.replace(',77,', ',0x10,'), 'not a number'],
    [good.replace(',77,', ',999999999999,'), 'length'],
    [good.replace(',2048,', ',02048,'), 'not a number'],
    [good.replace(',2048,', ',9007199254740991,'), 'offset'],
  ])('refuses %s', (text, why) => {
    expect(() => parseIndexAnnotation(text)).toThrow(CheckpointError);
    expect(() => parseIndexAnnotation(text)).toThrow(why);
  });
});
