/**
 * Removes invalid language tags from `navigator.languages` and `navigator.language`. Chromium on a system without a
 * language reports `en-US@posix`; Intl throws for it, also in libraries that format with `navigator.language`.
 */
export function dropInvalidLanguages(): void {
  const valid = navigator.languages.filter(isLanguageTag);
  if (valid.length === navigator.languages.length && isLanguageTag(navigator.language)) return;
  const languages = valid.length > 0 ? valid : ['en'];
  Object.defineProperty(navigator, 'languages', { value: languages, configurable: true });
  Object.defineProperty(navigator, 'language', { value: languages[0], configurable: true });
}

function isLanguageTag(tag: string): boolean {
  try {
    return Intl.getCanonicalLocales(tag).length > 0;
  } catch {
    return false;
  }
}
