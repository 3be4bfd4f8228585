import type { enActivity } from './activity-messages.js';
import { createPlural } from './plural.js';

const plural = createPlural('ru');

/** The messages about the activity in Russian. */
export const ruActivity: typeof enActivity = {
  subtitle: 'События в реальном времени и вся история',
  allProjectsSubtitle: 'Все доступные вам проекты, обновляется каждые 30 секунд',
  scopeFilter: 'Фильтр по проекту',
  onlyHere: (environment) => `Только ${environment}`,
  allProjects: 'Все проекты',
  timeFilter: 'Фильтр по времени',
  anyTime: 'За всё время',
  ranges: {
    hour: 'За последний час',
    day: 'За 24 часа',
    week: 'За 7 дней',
    month: 'За 30 дней',
    custom: 'Свой период',
  },
  from: 'С',
  to: 'По',
  actionFilter: 'Фильтр по действию',
  allActions: 'Все действия',
  flagFilter: 'Фильтр по флагу',
  allFlags: 'Все флаги',
  clearFilters: 'Сбросить фильтры',
  export: 'Экспорт',
  exportHint: 'Сохраняет события по выбранным фильтрам: до 1 000 000, начиная с новых.',
  exported: 'Экспорт сохранён',
  exportFailed: 'Экспорт прервался. Ничего не сохранено. Повторите.',
  exportTooLarge:
    'Экспорт слишком велик для этого браузера. Выберите период короче или откройте Chrome либо Edge.',
  cancelExport: (megabytes) => `Отменить экспорт (${megabytes} МБ)`,
  deletedFlag: 'удалён',
  dragHint: 'Выделите время мышью',
  typeFilter: 'Фильтр по типу',
  allTypes: 'Все типы',
  personFilter: 'Фильтр по автору',
  clearPersonFilter: 'Сбросить фильтр по автору',
  pause: 'Пауза',
  resume: (count) => (count === 0 ? 'Продолжить' : `Продолжить (${plural.number(count)})`),
  empty: 'Событий пока нет',
  noMatch: 'Ничего не найдено',
  older: 'Показать более ранние',
  end: 'Начало истории',
  searchedUntil: (time) => `Просмотрено до ${time}.`,
  searchFurther: 'Искать дальше',
  searchedOnly: (time) =>
    `Просмотрено до ${time}. Более ранние события найти нельзя: в базе нет нужного индекса.`,
  truncated: 'Значение слишком большое. Посмотрите его в базе данных.',
  system: 'Система',
  unknownUser: 'Неизвестный пользователь',
  timeUnknown: 'время не записано',
  events: (count) => plural(count, { one: 'событие', few: 'события', other: 'событий' }),
};
