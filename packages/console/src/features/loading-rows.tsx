import { Skeleton } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';

const rowCount = 8;

/** Placeholder of the table while it loads, of the same size. */
export function LoadingRows() {
  const { t } = useI18n();
  return (
    <div className="fc-table" role="status" aria-label={t.shell.loading}>
      <div className="fc-row fc-head" />
      {Array.from({ length: rowCount }, (_, index) => (
        <div key={index} className="fc-row fc-loading">
          <div>
            <Skeleton height={13} width={`${45 + ((index * 17) % 35)}%`} />
            <Skeleton height={9} mt={8} width={`${30 + ((index * 11) % 25)}%`} />
          </div>
          <Skeleton height={22} width={42} radius="xl" />
        </div>
      ))}
    </div>
  );
}
