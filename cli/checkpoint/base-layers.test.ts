import { expect, it } from 'vitest';
import { originsOf } from './base-layers.ts';

it('knows where a layer came from by its labels, then by the name of the image', () => {
  const labels = { 'containerd.distribution.source.r.example:5000': 'team/a,team/b', other: 'x' };
  expect(originsOf([labels, labels], 'r.example:5000/team/b:1')).toEqual([
    { registry: 'r.example:5000', repository: 'team/a' },
    { registry: 'r.example:5000', repository: 'team/b' },
  ]);
});

it('knows none for an imported image with a name that no registry has', () => {
  expect(originsOf([{}], 'UPPER CASE')).toEqual([]);
});
