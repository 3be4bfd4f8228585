import type { enList } from './list-messages.js';
import { createPlural } from './plural.js';

const plural = createPlural('ru');
const flags = (count: number): string => plural(count, { one: 'флаг', few: 'флага', other: 'флагов' });
const unknownUser = 'неизвестный пользователь';

/** The messages of the list of flags in Russian. */
export const ruList: typeof enList = {
  count: (shown, all) => (shown === all ? flags(all) : `${plural.number(shown)} из ${flags(all)}`),
  guardedHere: 'Изменения нужно одобрять',
  search: 'Поиск по имени, ключу или описанию',
  clearSearch: 'Очистить поиск',
  filter: 'Фильтр по состоянию',
  all: 'Все',
  on: 'Вкл.',
  off: 'Выкл.',
  pending: 'Ожидают',
  create: 'Новый флаг',
  submitCreate: 'Создать флаг',
  flag: 'Флаг',
  state: 'Статус',
  value: 'Значение',
  lastChange: 'Изменён',
  tags: 'Теги',
  filters: 'Фильтры',
  filtersOn: (count) => `Фильтры: ${plural.number(count)}`,
  differs: 'Различаются в окружениях',
  columns: 'Столбцы',
  otherEnvironments: 'Другие окружения',
  compact: 'Компактные строки',
  sort: 'сортировать',
  switchLabel: (name) => `Включить «${name}»`,
  turnOn: (name) => `Включить «${name}»`,
  turnOff: (name) => `Выключить «${name}»`,
  happened: {
    created: (by) => `создание: ${by ?? unknownUser}`,
    updated: (by) => `изменение: ${by ?? unknownUser}`,
    deleted: (by) => `удаление: ${by ?? unknownUser}`,
    pending: (by) => `новый запрос: ${by ?? unknownUser}`,
    approved: (by) => `одобрение: ${by ?? unknownUser}`,
    rejected: (by) => `отклонение: ${by ?? unknownUser}`,
    cancelled: (by) => `отмена: ${by ?? unknownUser}`,
    request_updated: (by) => `правка запроса: ${by ?? unknownUser}`,
  },
  pendingBy: (by) => `Запрос · ${by}`,
  requested: 'Запрос отправлен',
  empty: 'Флагов пока нет',
  emptyHint: 'Новые флаги появятся здесь сразу после создания.',
  noMatch: 'Ничего не найдено',
  noMatchHint: 'Измените запрос или фильтр.',
  showAll: 'Показать все флаги',
  pendingElsewhere: (count) => `Запросы в других окружениях: ${plural.number(count)}`,
  orderFrozen: 'Под курсором порядок не меняется',
};
