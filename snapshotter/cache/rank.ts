/** How soon bytes are needed: what a transfer goes before, and what it waits behind. */

/**
 * `wanted`: somebody waits for them; `lead`: a start will want them before all else, and they are few; `stream`: it needs
 * them all; `background`: nobody is known to need them.
 */
export const ranks = ['wanted', 'lead', 'stream', 'background'] as const;
export type Rank = (typeof ranks)[number];
