import { readFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

export const root = new URL('../', import.meta.url);

/** A fenced block of a document. */
export interface Block {
  readonly file: string;
  /** The line of its fence, from 1. */
  readonly line: number;
  /** What stands behind the fence; empty where nothing does. */
  readonly language: string;
  readonly text: string;
}

/** All documents that are for readers, by their paths in the repository. */
export function listDocuments(): string[] {
  const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
    cwd: root,
    encoding: 'utf8',
  });
  return tracked
    .trim()
    .split('\n')
    .filter((file) => existsSync(new URL(file, root)));
}

export async function readDocument(file: string): Promise<string> {
  return await readFile(new URL(file, root), 'utf8');
}

/** The fenced blocks of a document. */
export async function blocksOf(file: string): Promise<Block[]> {
  const document = await readDocument(file);
  return [...document.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(
    ({ index, 1: language = '', 2: text = '' }) => ({
      file,
      line: document.slice(0, index).split('\n').length,
      language,
      text,
    }),
  );
}

/** A document without its fenced blocks, and without code in the text. */
export function proseOf(document: string): string {
  return document.replace(/^```[^]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');
}

/** The anchors of its headings, as GitHub makes them. */
export function anchorsOf(document: string): Set<string> {
  const anchors = new Set<string>();
  const withoutBlocks = document.replace(/^```[^]*?^```$/gm, '');
  for (const [, heading = ''] of withoutBlocks.matchAll(/^#{1,6} (.*)$/gm)) {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1');
    const slug = text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let repeat = 1; anchors.has(anchor); repeat += 1) anchor = `${slug}-${repeat}`;
    anchors.add(anchor);
  }
  return anchors;
}
