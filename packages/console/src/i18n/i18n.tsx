import { createContext, type ReactNode, use, useEffect, useMemo, useState } from 'react';
import { en, type Messages } from './en.js';
import { createFormat, type Format } from './format.js';
import { ru } from './ru.js';
import { withVisibleArguments } from './visible.js';

export const languages = [
  { code: 'en', name: 'English' },
  { code: 'ru', name: 'Русский' },
] as const;

type Language = (typeof languages)[number]['code'];

const textsOf: Readonly<Record<Language, Messages>> = {
  en: withVisibleArguments(en),
  ru: withVisibleArguments(ru),
};

export interface I18n {
  readonly t: Messages;
  readonly format: Format;
  readonly language: Language;
  readonly setLanguage: (language: Language) => void;
}

const I18nContext = createContext<I18n | null>(null);

const storageKey = 'flagcast.language';

/** The chosen language, else the first one of the browser's that there is. */
export function I18nProvider({ children }: { readonly children: ReactNode }) {
  const [language, setLanguage] = useState(chosenLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const value = useMemo<I18n>(
    () => ({
      t: textsOf[language],
      format: createFormat(localeOf(language)),
      language,
      setLanguage: (next) => {
        localStorage.setItem(storageKey, next);
        setLanguage(next);
      },
    }),
    [language],
  );
  return <I18nContext value={value}>{children}</I18nContext>;
}

export function useI18n(): I18n {
  const texts = use(I18nContext);
  if (texts === null) throw new Error('there is no I18nProvider');
  return texts;
}

function chosenLanguage(): Language {
  const wanted = [localStorage.getItem(storageKey), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  const found = wanted.flatMap((code) => languages.filter((language) => language.code === code));
  return found[0]?.code ?? 'en';
}

/** As the browser's owner writes the language, e.g. with the day before the month. */
function localeOf(language: Language): string {
  return navigator.languages.find((tag) => tag.slice(0, 2) === language) ?? language;
}
