/**
 * Removes what is not a language tag from the languages of the browser: a Chromium on a machine without a language calls
 * it `en-US@posix`, for which Intl throws, also in libraries that format with `navigator.language`.
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
