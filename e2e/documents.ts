import { readFile } from 'node:fs/promises';

/** A fenced block of a document. */
export interface Block {
  readonly file: string;
  /** The line of its fence, from 1. */
  readonly line: number;
  /** What stands behind the fence; empty where nothing does. */
  readonly language: string;
  readonly text: string;
}

/** The fenced blocks of a document, by its path in the repository. */
export async function blocksOf(file: string): Promise<Block[]> {
  const document = await readFile(new URL(`../${file}`, import.meta.url), 'utf8');
  return [...document.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(
    ({ index, 1: language = '', 2: text = '' }) => ({
      file,
      line: document.slice(0, index).split('\n').length,
      language,
      text,
    }),
  );
}
